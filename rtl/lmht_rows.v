// Few rows of accumulators, in look-up tables: one write port, one read port, one clock. A read takes 2 cycles; with clear in
// the second one the row reads as 0. A row that is written in the first one shows up in the result.
module lmht_rows #(
    parameter WIDTH = 8,
    parameter DEPTH = 16,
    parameter ADDRESS_BITS = 4
) (
    input  wire                    clk,
    input  wire                    write_enable,
    input  wire [ADDRESS_BITS-1:0] write_address,
    input  wire [WIDTH-1:0]        write_data,
    input  wire [ADDRESS_BITS-1:0] read_address,
    input  wire                    clear,
    output reg  [WIDTH-1:0]        read_data
);
    (* no_rw_check *) reg [WIDTH-1:0] rows [0:DEPTH-1];
    reg [ADDRESS_BITS-1:0] address;
    always @(posedge clk) begin
        if (write_enable) rows[write_address] <= write_data;
    end
    always @(posedge clk) begin
        address <= read_address;
        if (clear) read_data <= {WIDTH{1'b0}};
        else read_data <= rows[address];
    end
endmodule
