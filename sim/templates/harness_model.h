// The Verilated model with its clock, waveform and configuration bus.
#pragma once
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "harness_design.h"
#include "host.h"
#include "verilated.h"

// Bits of a port of up to 64 bits (an integer) or of more (an array of 32-bit words), as an unsigned number.
template <typename Port>
inline uint64_t bits(const Port& port, design::Field field) {
    uint64_t value = 0;
    if constexpr (std::is_integral_v<Port>) {
        value = static_cast<uint64_t>(port) >> field.offset;
    } else {
        const int first = field.offset / 32, shift = field.offset % 32;
        const int needed = (shift + field.width + 31) / 32;
        for (int word = 0; word < needed && word < 3; ++word) {
            const uint64_t part = port[first + word];
            const int position = 32 * word - shift;
            value |= position < 0 ? part >> -position : (position < 64 ? part << position : 0);
        }
    }
    return field.width >= 64 ? value : value & ((uint64_t{1} << field.width) - 1);
}

// Two's complement field; only the low 64 bits of a wider one.
template <typename Port>
inline int64_t signed_bits(const Port& port, design::Field field) {
    const int unused = field.width >= 64 ? 0 : 64 - field.width;
    return static_cast<int64_t>(bits(port, field) << unused) >> unused;
}

// One beat of a frame into the port that takes `bytes_per_beat` bytes, first byte lowest, and `last` above them.
template <typename Port>
inline void set_beat(Port& port, const uint8_t* bytes, int count, bool last) {
    constexpr int data_bytes = design::bytes_per_beat;
    static_assert(design::beat_data.offset == 0 && design::beat_data.width == 8 * data_bytes);
    static_assert(design::beat_last.offset == 8 * data_bytes);
    uint8_t padded[16] = {};
    if (count < data_bytes) {
        for (int i = 0; i < count; ++i) padded[i] = bytes[i];
        bytes = padded;
    }
    if constexpr (std::is_integral_v<Port>) {
        uint64_t value = 0;
        for (int i = 0; i < data_bytes; ++i) value |= uint64_t{bytes[i]} << (8 * i);
        port = static_cast<Port>(value | uint64_t{last} << (8 * data_bytes));
    } else {
        for (int word = 0; word < data_bytes / 4; ++word) {
            uint32_t value = 0;
            for (int i = 0; i < 4; ++i) value |= uint32_t{bytes[4 * word + i]} << (8 * i);
            port[word] = value;
        }
        port[data_bytes / 4] = last;
    }
}

class Simulation {
  public:
    Simulation() {
#ifdef WAVEFORM
        context.traceEverOn(true);
        top.trace(&trace, 99);
#endif
        top.clk = 0;
        top.rst = 1;
        top.frames___05Fvalid = 0;
        top.results___05Fready = 0;
        top.bus___05Fvalid = 0;
        for (int i = 0; i < 4; ++i) cycle_once();
        top.rst = 0;
    }
    ~Simulation() {
#ifdef WAVEFORM
        trace.close();
#endif
        top.final();
    }
    Simulation(const Simulation&) = delete;

    // Let the inputs of this cycle reach the outputs, which then hold what the rising edge will see.
    void settle() {
        top.clk = 0;
        top.eval();
        dump();
    }
    // Rising edge; inputs may change afterwards.
    void rise() {
        top.clk = 1;
        top.eval();
        ++half_cycles;
        dump();
        ++half_cycles;
    }
    void cycle_once() {
        settle();
        rise();
    }
    uint64_t now() const { return half_cycles / 2; }

    uint32_t access(unsigned address, bool write, uint32_t data) {
        top.bus___05Fvalid = 1;
        top.bus___05Fwrite = write;
        top.bus___05Faddress = address;
        top.bus___05Fwrite_data = data;
        for (int waited = 0; waited < 10000; ++waited) {
            settle();
            const bool done = top.bus___05Fready;
            const uint32_t value = top.bus___05Fread_data;
            rise();
            if (done) {
                top.bus___05Fvalid = 0;
                return value;
            }
        }
        fail("the configuration bus does not answer at address " + std::to_string(address));
    }
    uint32_t read(unsigned address) { return access(address, false, 0); }
    void write(unsigned address, uint32_t data) { access(address, true, data); }

    void open_waveform(const char* path) {
#ifdef WAVEFORM
        trace.open(path);
        dumping = true;
#else
        (void)path;
#endif
    }
    void close_waveform() { dumping = false; }

    VerilatedContext context;
    Model top{&context};

  private:
    void dump() {
#ifdef WAVEFORM
        if (dumping) trace.dump(half_cycles * 5);  // a period of 10 time units
#endif
    }
#ifdef WAVEFORM
    Trace trace;
#endif
    bool dumping = false;
    uint64_t half_cycles = 0;
};

// The memory image: checked as a whole before the first word reaches the design.
inline void load_image(Simulation& simulation, const std::vector<uint8_t>& bytes, const std::string& path) {
    const auto word = [&](size_t index) {
        uint32_t value = 0;
        for (int i = 0; i < 4; ++i) value |= uint32_t{bytes[4 * index + i]} << (8 * i);
        return value;
    };
    const auto require = [&](bool holds, const std::string& message) {
        if (!holds) fail(path + ": " + message);
    };
    const auto text = [](uint64_t number) { return std::to_string(number); };
    const size_t total = bytes.size() / 4;
    require(bytes.size() % 4 == 0 && total >= 7, "an image has at least 7 words, not " + text(bytes.size()) + " bytes");
    require(word(0) == design::image_magic, "not a memory image (wrong first word)");
    require(word(1) == design::image_format,
            "image format must be " + text(design::image_format) + ", not " + text(word(1)));
    require(word(2) == design::hash_low && word(3) == design::hash_high, "the image belongs to another design");
    require(word(4) == total, "the image must have " + text(word(4)) + " words, not " + text(total));
    uint32_t checksum = 0xffffffffu;
    for (size_t i = 0; i + 4 < bytes.size(); ++i) {
        checksum ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) checksum = (checksum >> 1) ^ (0xedb88320u & (0u - (checksum & 1)));
    }
    require(~checksum == word(total - 1), "the checksum is wrong");

    uint32_t sections = 0;
    for (size_t at = 6; at < total - 1; ++sections) {
        require(total - 1 - at >= 3, "the last section is cut off");
        const uint32_t memory = word(at), row_words = word(at + 1), rows = word(at + 2);
        at += 3;
        const uint64_t words = uint64_t{row_words} * rows;
        require(words <= total - 1 - at, "the section of memory " + text(memory) + " is cut off");
        simulation.write(design::address::load_select, memory);
        simulation.write(design::address::load_row, 0);
        for (uint64_t i = 0; i < words; ++i) simulation.write(design::address::load_data, word(at++));
    }
    require(sections == word(5), "the image must have " + text(word(5)) + " sections, not " + text(sections));
}
