// One write port, one read port, one clock. The memories of the generated designs: an ASIC flow replaces this file
// by one that picks SRAM macros by WIDTH and DEPTH.
//
// A read takes 1 cycle, or 2 with OUTPUT_REGISTER; read_enable = 0 freezes the whole read pipeline. Reading a row in the cycle
// in which it is written gives the old or the new value (designs do not depend on it, and
// no_rw_check spares Yosys the logic to decide). INIT_FILE, if set, is read by $readmemh.
//
// A deep memory is stored in columns as wide as an 18 Kbit block RAM is at that depth. Otherwise synthesis stacks blocks
// on top of each other and puts a multiplexer behind their outputs, which are slow enough without.
module lmht_ram #(
    parameter WIDTH = 8,
    parameter DEPTH = 16,
    parameter ADDRESS_BITS = 4,
    parameter OUTPUT_REGISTER = 1,
    parameter INIT_FILE = ""
) (
    input  wire                    clk,
    input  wire                    write_enable,
    input  wire [ADDRESS_BITS-1:0] write_address,
    input  wire [WIDTH-1:0]        write_data,
    input  wire                    read_enable,
    input  wire [ADDRESS_BITS-1:0] read_address,
    output wire [WIDTH-1:0]        read_data
);
    localparam BLOCK = DEPTH <= 1024 ? WIDTH : DEPTH <= 2048 ? 9 : DEPTH <= 4096 ? 4 : DEPTH <= 8192 ? 2 : 1;
    localparam COLUMN = INIT_FILE != "" || BLOCK > WIDTH ? WIDTH : BLOCK;
    localparam COLUMNS = (WIDTH + COLUMN - 1) / COLUMN;

    reg [WIDTH-1:0] array_data;

    genvar c;
    generate
        for (c = 0; c < COLUMNS; c = c + 1) begin : g_column
            localparam LOW = c * COLUMN;
            localparam BITS = LOW + COLUMN > WIDTH ? WIDTH - LOW : COLUMN;
            (* no_rw_check *) reg [BITS-1:0] rows [0:DEPTH-1];
            if (INIT_FILE != "") begin : g_init
                initial $readmemh(INIT_FILE, rows);
            end
            always @(posedge clk) begin
                if (write_enable) rows[write_address] <= write_data[LOW +: BITS];
            end
            always @(posedge clk) begin
                if (read_enable) array_data[LOW +: BITS] <= rows[read_address];
            end
        end
        if (OUTPUT_REGISTER != 0) begin : g_output_register
            reg [WIDTH-1:0] output_data;
            always @(posedge clk) begin
                if (read_enable) output_data <= array_data;
            end
            assign read_data = output_data;
        end else begin : g_direct
            assign read_data = array_data;
        end
    endgenerate
endmodule

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
