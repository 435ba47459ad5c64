// Memory of the RISC-V system in simulation: words of 32 bits with byte strobes, and a second port that reads.
// It is filled from the file that the plus argument ARGUMENT names ("ram=%s": +ram=FILE, as for $readmemh).
module soc_memory #(
    parameter ADDRESS_BITS = 8,
    parameter ARGUMENT = "memory=%s"
) (
    input wire clk,
    input wire [ADDRESS_BITS-1:0] address,
    input wire [3:0] write_strobe,
    input wire [31:0] write_data,
    output reg [31:0] read_data,
    input wire [ADDRESS_BITS-1:0] second_address,
    output reg [31:0] second_read_data
);
    reg [31:0] words[0:(1<<ADDRESS_BITS)-1];
    reg [8*256-1:0] file;

    initial if ($value$plusargs(ARGUMENT, file)) $readmemh(file, words);

    integer lane;
    always @(posedge clk) begin
        for (lane = 0; lane < 4; lane = lane + 1)
            if (write_strobe[lane]) words[address][8*lane+:8] <= write_data[8*lane+:8];
        read_data <= words[address];
        second_read_data <= words[second_address];
    end
endmodule
