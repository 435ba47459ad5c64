// A system around the Verilated design: an AXI4-Lite master and two AXI4-Stream DMA channels.
//
// Inputs are set after a rising edge, outputs are read before the next one, as in the harness.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "harness_design.h"
#include "harness_taps.h"
#include "host.h"
#include "lmht_design.h"
#include "verilated.h"

class System {
  public:
    static constexpr uint32_t no_byte = ~0u;

    // Probabilities are in units of 2^-32, `timeout` is in cycles.
    System(uint64_t seed, uint64_t idle, uint64_t back_pressure, uint64_t timeout)
        : idle(idle), back_pressure(back_pressure), timeout(timeout), source(seed), sink(seed + 1) {
        top.clk = 0;
        top.rst = 1;
        top.s_axi_awvalid = top.s_axi_wvalid = top.s_axi_arvalid = 0;
        top.s_axi_bready = top.s_axi_rready = 1;
        top.s_axi_awprot = top.s_axi_arprot = 0;
        top.s_axi_wstrb = 0xf;
        top.s_axis_tvalid = 0;
        top.m_axis_tready = 0;
        for (int i = 0; i < 4; ++i) {
            settle();
            rise();
        }
        top.rst = 0;
    }
    ~System() { top.final(); }
    System(const System&) = delete;

    // One cycle: the streams move by themselves, the registers' channels as access() has set them.
    void cycle() {
        settle();
        fifos.sample();
        if (events && !muted) taps.sample(cycles, observed, events);
        if (top.m_axis_tvalid && top.m_axis_tready) take_result();
        const bool beat_taken = top.s_axis_tvalid && top.s_axis_tready;
        const bool address_taken = top.s_axi_awvalid && top.s_axi_awready;
        const bool data_taken = top.s_axi_wvalid && top.s_axi_wready;
        const bool read_taken = top.s_axi_arvalid && top.s_axi_arready;
        if (top.s_axi_bvalid) {
            answered = true;
            response = top.s_axi_bresp;
        }
        if (top.s_axi_rvalid) {
            answered = true;
            response = top.s_axi_rresp;
            read_data = top.s_axi_rdata;
        }
        rise();
        if (address_taken) top.s_axi_awvalid = 0;
        if (data_taken) top.s_axi_wvalid = 0;
        if (read_taken) top.s_axi_arvalid = 0;
        if (beat_taken) {
            if (beats_taken == 0 && !muted) first_beats.push_back(cycles);
            beats_taken = beats.front().last ? 0 : beats_taken + 1;
            beats.pop_front();
            top.s_axis_tvalid = 0;
            moved = cycles;
        }
        if (!top.s_axis_tvalid && !beats.empty() && !(idle && source.below(idle))) {
            top.s_axis_tvalid = 1;
            top.s_axis_tdata = beats.front().data;
            top.s_axis_tkeep = beats.front().keep;
            top.s_axis_tlast = beats.front().last;
        }
        top.m_axis_tready = !(back_pressure && sink.below(back_pressure));
        ++cycles;
    }
    void wait(uint64_t count) {
        for (uint64_t i = 0; i < count; ++i) cycle();
    }

    // A register on AXI4-Lite; `address` counts words. 0 for OKAY.
    int access(uint32_t address, bool write, uint32_t* value) {
        answered = false;
        if (write) {
            top.s_axi_awaddr = 4 * address;
            top.s_axi_wdata = *value;
            top.s_axi_awvalid = top.s_axi_wvalid = 1;
        } else {
            top.s_axi_araddr = 4 * address;
            top.s_axi_arvalid = 1;
        }
        for (int waited = 0; !answered; ++waited) {
            if (waited == 1000) fail("AXI4-Lite does not answer at register " + std::to_string(address));
            cycle();
        }
        if (!write) *value = read_data;
        return response == 0 ? 0 : -1;
    }

    // Hands a packet to the DMA of the frames; without its end if not `whole`, without the byte `missing`.
    void send(const uint8_t* bytes, uint32_t length, bool whole = true, uint32_t missing = no_byte) {
        for (uint32_t at = 0; at < length; at += LMHT_BYTES_PER_BEAT) {
            Beat beat = {0, 0, whole && at + LMHT_BYTES_PER_BEAT >= length};
            for (uint32_t lane = 0; lane < LMHT_BYTES_PER_BEAT && at + lane < length; ++lane) {
                beat.data |= uint64_t{bytes[at + lane]} << (8 * lane);
                if (at + lane != missing) beat.keep |= 1u << lane;
            }
            beats.push_back(beat);
        }
        moved = cycles;
    }

    // Words that the DMA of the results holds, some cycles later if it holds none and the stream is at rest.
    uint32_t receive(uint32_t* to, uint32_t length) {
        uint32_t taken = 0;
        for (uint32_t quiet = 0; words.empty() && quiet < quiet_cycles && !stalled(); ++quiet) {
            if (top.m_axis_tvalid) quiet = 0;
            cycle();
        }
        for (; taken < length && !words.empty(); ++taken) {
            to[taken] = words.front();
            words.pop_front();
        }
        return taken;
    }

    // The DMA of the frames is reset: what it has not sent is forgotten.
    void abandon() {
        beats.clear();
        beats_taken = 0;
        top.s_axis_tvalid = 0;
    }

    bool stalled() const { return cycles - moved > timeout; }
    bool sending() const { return !beats.empty(); }
    // Beats that the core has of the packet that is on its way.
    uint64_t begun() const { return beats_taken; }
    uint64_t words_left() const { return words.size(); }

    VerilatedContext context;
    Model top{&context};
    Taps taps{context};
    Fifos fifos{context};
    Range observed;              // images whose words at the taps are recorded in `events`
    std::FILE* events = nullptr;
    bool muted = false;          // what happens now belongs to no image
    std::deque<uint64_t> first_beats, results;  // cycles in which the first beat and TLAST of each moved
    uint64_t cycles = 0;

  private:
    struct Beat {
        uint64_t data;
        uint32_t keep;
        bool last;
    };
    static constexpr uint32_t quiet_cycles = 32;

    void settle() {
        top.clk = 0;
        top.eval();
    }
    void rise() {
        top.clk = 1;
        top.eval();
    }
    void take_result() {
        words.push_back(static_cast<uint32_t>(top.m_axis_tdata));
        ++packet_words;
        if (top.m_axis_tkeep >> 4) {
            words.push_back(static_cast<uint32_t>(uint64_t{top.m_axis_tdata} >> 32));
            ++packet_words;
        }
        if (top.m_axis_tlast ? packet_words != LMHT_RESULT_WORDS : packet_words >= LMHT_RESULT_WORDS)
            fail("m_axis: a result has " + std::to_string(packet_words) + " words " +
                 (top.m_axis_tlast ? "" : "or more ") + "instead of " + std::to_string(LMHT_RESULT_WORDS));
        if (top.m_axis_tlast) {
            if (!muted) results.push_back(cycles);
            packet_words = 0;
        }
        moved = cycles;
    }

    const uint64_t idle, back_pressure, timeout;
    Random source, sink;
    std::deque<Beat> beats;
    std::deque<uint32_t> words;
    uint64_t beats_taken = 0, moved = 0;
    uint32_t packet_words = 0;
    bool answered = false;
    uint32_t response = 0, read_data = 0;
};
