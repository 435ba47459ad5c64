// Looks at the streams between components and at FIFOs, whose nets the model was built to keep readable.
#pragma once
#include <cstdio>
#include <string>
#include <vector>

#include "harness_design.h"
#include "host.h"
#include "verilated.h"
#include "verilated_sym_props.h"

struct Net {
    const void* data = nullptr;
    int bits = 0;
};

// Finds a net by name at run time, so that nothing depends on how Verilator lays out the model.
inline Net find_net(const VerilatedContext& context, const char* scope_name, const char* name, const char* owner) {
    const VerilatedScope* scope = context.scopeFind(scope_name);
    const VerilatedVar* variable = scope ? scope->varFind(name) : nullptr;
    if (!variable) fail(std::string("the simulated design lacks the net ") + name + " of " + owner);
    return {variable->datap(), static_cast<int>(variable->totalSize() * 8)};
}

class Taps {
  public:
    explicit Taps(const VerilatedContext& context) {
        for (const auto& declared : design::taps) {
            Tap tap{declared};
            tap.valid = find(context, declared, declared.valid);
            tap.ready = find(context, declared, declared.ready);
            tap.payload = find(context, declared, declared.payload);
            taps.push_back(tap);
        }
    }

    // Writes every word that moves in this cycle and belongs to an image in `range`; frames are counted at each tap.
    void sample(uint64_t cycle, Range range, std::FILE* file) {
        for (size_t index = 0; index < taps.size(); ++index) {
            Tap& tap = taps[index];
            if (!(bit(tap.valid) && bit(tap.ready))) continue;
            EventRecord record{};
            payload(tap, record.payload);
            if (file && tap.frames >= range.first && tap.frames < range.end) {
                record.cycle = cycle;
                record.image = static_cast<uint32_t>(tap.frames);
                record.tap = static_cast<uint32_t>(index);
                if (std::fwrite(&record, sizeof record, 1, file) != 1) fail("the events cannot be written");
            }
            const uint64_t kind = (record.payload[0] >> tap.declared.kind.offset) & ((1u << tap.declared.kind.width) - 1);
            tap.frames += kind == design::frame_end;
        }
    }

    // Notes the handshakes of a design that stands still.
    void look() {
        for (Tap& tap : taps) {
            tap.last_valid = bit(tap.valid);
            tap.last_ready = bit(tap.ready);
        }
    }

    std::string json() const {
        std::string text;
        for (const Tap& tap : taps) {
            if (!text.empty()) text += ", ";
            text += "\"" + std::string(tap.declared.name) + "\": [" + std::to_string(tap.last_valid) + ", " +
                    std::to_string(tap.last_ready) + ", " + std::to_string(tap.frames) + "]";
        }
        return text;
    }

  private:
    struct Tap {
        design::Tap declared;
        Net valid, ready, payload;
        uint64_t frames = 0;  // FRAME_END words seen
        int last_valid = 0, last_ready = 0;
    };

    static Net find(const VerilatedContext& context, const design::Tap& tap, const char* name) {
        return find_net(context, design::scope, name, tap.name);
    }
    static bool bit(const Net& net) { return *static_cast<const uint8_t*>(net.data); }
    // `words` are zeros, enough for the widest stream.
    static void payload(const Tap& tap, uint64_t* words) {
        switch (tap.payload.bits) {
            case 8: words[0] = *static_cast<const uint8_t*>(tap.payload.data); break;
            case 16: words[0] = *static_cast<const uint16_t*>(tap.payload.data); break;
            case 32: words[0] = *static_cast<const uint32_t*>(tap.payload.data); break;
            case 64: words[0] = *static_cast<const uint64_t*>(tap.payload.data); break;
            default: {
                const uint32_t* parts = static_cast<const uint32_t*>(tap.payload.data);
                for (int i = 0; i < tap.payload.bits / 32; ++i)
                    words[i / 2] |= uint64_t{parts[i]} << (32 * (i % 2));
            }
        }
    }
    std::vector<Tap> taps;
};

// The most words that each FIFO has held.
class Fifos {
  public:
    explicit Fifos(const VerilatedContext& context) {
        for (size_t i = 0; i < design::fifos.size(); ++i) {
            const design::Fifo& declared = design::fifos[i];
            nets[i] = find_net(context, declared.scope, declared.net, declared.name);
        }
    }

    void sample() {
        for (size_t i = 0; i < design::fifos.size(); ++i) {
            const uint32_t held = read(nets[i]);
            if (held > most[i]) most[i] = held;
        }
    }

    std::string json() const {
        std::string text;
        for (size_t i = 0; i < design::fifos.size(); ++i)
            text += (i ? ", \"" : "\"") + std::string(design::fifos[i].name) + "\": " + std::to_string(most[i]);
        return text;
    }

  private:
    static uint32_t read(const Net& net) {
        switch (net.bits) {
            case 8: return *static_cast<const uint8_t*>(net.data);
            case 16: return *static_cast<const uint16_t*>(net.data);
            default: return *static_cast<const uint32_t*>(net.data);
        }
    }

    std::array<Net, design::fifos.size()> nets{};
    std::array<uint32_t, design::fifos.size()> most{};
};
