// The RISC-V system in simulation: clock, reset and the far end of its serial line, whose characters go to standard
// output. Ends when the program says so; +quiet=N gives up after N cycles without a character.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "host.h"
#include "soc_model.h"
#include "verilated.h"

namespace {

constexpr int reset_cycles = 8;
constexpr int data_bits = 8;

// Samples every bit in its middle.
class UartReceiver {
  public:
    explicit UartReceiver(bool idle) : previous(idle) {}

    // One clock cycle; true if a character is complete.
    bool cycle(bool line) {
        const bool begins = bit < 0 && previous && !line;
        previous = line;
        if (begins) {
            bit = 0;
            wait = soc_clocks_per_bit + soc_clocks_per_bit / 2 - 1;
            value = 0;
            return false;
        }
        if (bit < 0 || wait-- > 0) return false;
        wait = soc_clocks_per_bit - 1;
        if (bit < data_bits) {
            value |= static_cast<unsigned>(line) << bit++;
            return false;
        }
        bit = -1;
        if (!line) fail("the UART sent a character without a stop bit");
        return true;
    }
    int character() const { return static_cast<int>(value); }

  private:
    bool previous;
    int bit = -1;  // next to come; -1 between characters
    int wait = 0;
    unsigned value = 0;
};

uint64_t quiet_cycles(VerilatedContext& context) {
    const std::string found = context.commandArgsPlusMatch("quiet=");
    if (found.empty()) fail("+quiet=N is missing");
    return std::stoull(found.substr(found.find('=') + 1));
}

std::string hexadecimal(uint32_t value) {
    char text[16];
    std::snprintf(text, sizeof text, "0x%08x", static_cast<unsigned>(value));
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    const uint64_t quiet = quiet_cycles(context);
    Model top{&context};
    top.clk = 0;
    top.rst = 1;
    top.eval();
    UartReceiver uart(true);
    uint64_t cycles = 0, silent = 0;
    std::string problem;
    while (!top.exited && problem.empty()) {
        top.rst = cycles < reset_cycles;
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
        ++cycles;
        ++silent;
        if (uart.cycle(top.uart_tx)) {
            silent = 0;
            std::putchar(uart.character());
            if (uart.character() == '\n') std::fflush(stdout);
        }
        if (top.rst) continue;
        if (top.faulted) {
            problem = "the processor or its DMA accessed " + hexadecimal(top.fault_address) + ", which is not allowed";
        }
        if (top.trapped) problem = "the processor met an instruction that it cannot execute, or a misaligned address";
        if (silent > quiet) problem = "nothing came over the UART for " + std::to_string(quiet) + " cycles";
    }
    std::fflush(stdout);
    const int status = top.exit_status;
    top.final();
    if (!problem.empty()) fail(problem);
    std::fprintf(stderr, "cycles %llu\n", static_cast<unsigned long long>(cycles));
    return status;
}
