// Plays register accesses on the bus master of a LiteX SoC.
//
//   wishbone_player FILE      lines `w ADDRESS VALUE`, `r ADDRESS` (printed), `p ADDRESS VALUE` (poll), addresses in bytes
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vsoc.h"
#include "verilated.h"

namespace {

VerilatedContext context;
Vsoc top{&context};

void cycle() {
    top.clk = 0;
    top.eval();
    top.clk = 1;
    top.eval();
}

uint32_t access(uint32_t address, bool write, uint32_t value) {
    top.host_cyc = top.host_stb = 1;
    top.host_sel = 0xf;
    top.host_adr = address / 4;
    top.host_we = write;
    top.host_dat_w = value;
    for (int waited = 0; waited < 10000; ++waited) {
        top.clk = 0;
        top.eval();
        const bool done = top.host_ack, failed = top.host_err;
        const uint32_t read = top.host_dat_r;
        top.clk = 1;
        top.eval();
        if (failed) break;
        if (done) {
            top.host_cyc = top.host_stb = 0;
            cycle();
            return read;
        }
    }
    std::fprintf(stderr, "no answer at address 0x%08x\n", address);
    std::exit(2);
}

}  // namespace

int main(int, char** argv) {
    std::FILE* file = std::fopen(argv[1], "r");
    if (!file) return 2;
    top.rst = 1;
    top.host_cyc = top.host_stb = 0;
    for (int i = 0; i < 4; ++i) cycle();
    top.rst = 0;
    char kind;
    uint32_t address;
    while (std::fscanf(file, " %c %u", &kind, &address) == 2) {
        uint32_t value = 0;
        if (kind != 'r' && std::fscanf(file, "%u", &value) != 1) return 2;
        if (kind == 'w') access(address, true, value);
        if (kind == 'r') std::printf("%u\n", access(address, false, 0));
        if (kind == 'p') {
            int left = 10000;
            while (left && access(address, false, 0) != value) --left;
            if (!left) {
                std::fprintf(stderr, "address 0x%08x does not become %u\n", address, value);
                return 2;
            }
        }
    }
    std::fclose(file);
    top.final();
    return 0;
}
