// One write port, one read port, one clock. The memory of the generated designs: an ASIC flow replaces this file
// by one that picks SRAM macros by WIDTH and DEPTH.
//
// A read takes 1 cycle, or 2 with OUTPUT_REGISTER; read_enable = 0 freezes the whole read pipeline. Reading a row in the cycle
// in which it is written gives the old or the new value (designs do not depend on it, and
// no_rw_check spares Yosys the logic to decide). INIT_FILE, if set, is read by $readmemh.
//
// A deep memory is stored in columns as wide as an 18 Kbit block RAM is at that depth. Otherwise synthesis stacks blocks
// on top of each other and puts a multiplexer behind their outputs, which are slow enough without.
//
// Yosys leaves the output register outside the block RAMs of an ECP5, whose bare output takes longer than all else in a cycle.
// With LMHT_ECP5 defined, memories of more than 512 rows are made of blocks with their own output registers.
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

    genvar c;
    generate
`ifdef LMHT_ECP5
    if (OUTPUT_REGISTER != 0 && INIT_FILE == "" && DEPTH > 512 && DEPTH <= 16384) begin : g_blocks
        localparam BITS = DEPTH <= 1024 ? 18 : BLOCK;  // of a block's row
        for (c = 0; c < (WIDTH + BITS - 1) / BITS; c = c + 1) begin : g_block
            localparam LOW = c * BITS;
            localparam USED = LOW + BITS > WIDTH ? WIDTH - LOW : BITS;
            wire [BITS-1:0] data = write_data[LOW +: USED];
            wire [BITS-1:0] row;
            lmht_ram_block #(.WIDTH(BITS), .ADDRESS_BITS(ADDRESS_BITS)) block (
                .clk(clk), .write_enable(write_enable), .write_address(write_address), .write_data(data),
                .read_enable(read_enable), .read_address(read_address), .read_data(row)
            );
            assign read_data[LOW +: USED] = row[USED-1:0];
        end
    end else
`endif
    begin : g_plain
        reg [WIDTH-1:0] array_data;
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
    end
    endgenerate
endmodule

`ifdef LMHT_ECP5
// An 18 Kbit block RAM of an ECP5 with its output register: WIDTH of 18, 9, 4, 2 or 1 bits; port A writes, port B reads.
module lmht_ram_block #(
    parameter WIDTH = 18,
    parameter ADDRESS_BITS = 10
) (
    input  wire                    clk,
    input  wire                    write_enable,
    input  wire [ADDRESS_BITS-1:0] write_address,
    input  wire [WIDTH-1:0]        write_data,
    input  wire                    read_enable,
    input  wire [ADDRESS_BITS-1:0] read_address,
    output wire [WIDTH-1:0]        read_data
);
    // Addresses count single bits, in steps of a row; the lowest two of a row of 18 bits enable its bytes.
    localparam SHIFT = WIDTH == 18 ? 4 : WIDTH == 9 ? 3 : WIDTH == 4 ? 2 : WIDTH == 2 ? 1 : 0;
    wire [13:0] wide_write_address = write_address;
    wire [13:0] wide_read_address = read_address;
    wire [13:0] a = (wide_write_address << SHIFT) | (WIDTH == 18 ? 14'd3 : 14'd0);
    wire [13:0] b = wide_read_address << SHIFT;
    wire [17:0] data = write_data;
    wire [17:0] q;
    assign read_data = q[WIDTH-1:0];
    DP16KD #(
        .DATA_WIDTH_A(WIDTH), .DATA_WIDTH_B(WIDTH), .REGMODE_A("NOREG"), .REGMODE_B("OUTREG"), .GSR("DISABLED"),
        .CLKAMUX("CLKA"), .CLKBMUX("CLKB"), .WRITEMODE_A("READBEFOREWRITE"), .WRITEMODE_B("READBEFOREWRITE")
    ) block (
        .CLKA(clk), .CEA(1'b1), .OCEA(1'b1), .WEA(write_enable), .RSTA(1'b0), .CSA0(1'b0), .CSA1(1'b0), .CSA2(1'b0),
        .CLKB(clk), .CEB(read_enable), .OCEB(read_enable), .WEB(1'b0), .RSTB(1'b0), .CSB0(1'b0), .CSB1(1'b0), .CSB2(1'b0),
        .ADA0(a[0]), .ADA1(a[1]), .ADA2(a[2]), .ADA3(a[3]), .ADA4(a[4]), .ADA5(a[5]), .ADA6(a[6]),
        .ADA7(a[7]), .ADA8(a[8]), .ADA9(a[9]), .ADA10(a[10]), .ADA11(a[11]), .ADA12(a[12]), .ADA13(a[13]),
        .ADB0(b[0]), .ADB1(b[1]), .ADB2(b[2]), .ADB3(b[3]), .ADB4(b[4]), .ADB5(b[5]), .ADB6(b[6]),
        .ADB7(b[7]), .ADB8(b[8]), .ADB9(b[9]), .ADB10(b[10]), .ADB11(b[11]), .ADB12(b[12]), .ADB13(b[13]),
        .DIA0(data[0]), .DIA1(data[1]), .DIA2(data[2]), .DIA3(data[3]), .DIA4(data[4]), .DIA5(data[5]),
        .DIA6(data[6]), .DIA7(data[7]), .DIA8(data[8]), .DIA9(data[9]), .DIA10(data[10]), .DIA11(data[11]),
        .DIA12(data[12]), .DIA13(data[13]), .DIA14(data[14]), .DIA15(data[15]), .DIA16(data[16]), .DIA17(data[17]),
        .DOB0(q[0]), .DOB1(q[1]), .DOB2(q[2]), .DOB3(q[3]), .DOB4(q[4]), .DOB5(q[5]), .DOB6(q[6]), .DOB7(q[7]), .DOB8(q[8]),
        .DOB9(q[9]), .DOB10(q[10]), .DOB11(q[11]), .DOB12(q[12]), .DOB13(q[13]), .DOB14(q[14]), .DOB15(q[15]),
        .DOB16(q[16]), .DOB17(q[17])
    );
endmodule
`endif
