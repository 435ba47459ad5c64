// The C driver on the Verilated design: its port is a model of an AXI4-Lite master and two AXI4-Stream DMA channels.
//
// Loads the image, sends every frame and writes a record for each: its logits, class and flag, as int64.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "driver_model.h"
#include "lmht.h"
#include "verilated.h"

namespace {

constexpr uint32_t idle_cycles = 32;  // that pass while the driver finds nothing to receive
constexpr uint32_t frames_in_flight = 4;
constexpr int beat_bytes = LMHT_BYTES_PER_BEAT;

struct Beat {
    uint64_t data;
    uint32_t keep;
    bool last;
};

[[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "error %s\n", message.c_str());
    std::exit(2);
}

void require(lmht_status_t status, const char* what) {
    if (status != LMHT_OK) fail(std::string(what) + " returned " + std::to_string(status));
}

// Pauses at random: an offer, or readiness, in a cycle.
class Pauses {
  public:
    Pauses(uint64_t seed, double probability) : state(seed * 2 + 1), threshold(probability * 4294967296.0) {}
    bool go() {
        if (!threshold) return true;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return (state >> 32) >= threshold;
    }

  private:
    uint64_t state;
    uint64_t threshold;
};

class System {
  public:
    System(uint64_t seed, double idle, double back_pressure) : source(seed, idle), sink(seed + 1, back_pressure) {
        top.clk = 0;
        top.rst = 1;
        top.s_axi_awvalid = top.s_axi_wvalid = top.s_axi_arvalid = 0;
        top.s_axi_bready = top.s_axi_rready = 1;
        top.s_axi_awprot = top.s_axi_arprot = 0;
        top.s_axi_wstrb = 0xf;
        top.s_axis_tvalid = 0;
        top.m_axis_tready = 0;
        for (int i = 0; i < 4; ++i) edge();
        top.rst = 0;
    }
    ~System() { top.final(); }
    System(const System&) = delete;

    // One cycle: the streams move by themselves, the registers' channels as `access` has set them.
    void cycle() {
        top.clk = 0;
        top.eval();
        if (top.m_axis_tvalid && top.m_axis_tready) {
            words.push_back(static_cast<uint32_t>(top.m_axis_tdata));
            if (top.m_axis_tkeep >> 4) words.push_back(static_cast<uint32_t>(uint64_t{top.m_axis_tdata} >> 32));
        }
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
        edge_only();
        if (address_taken) top.s_axi_awvalid = 0;
        if (data_taken) top.s_axi_wvalid = 0;
        if (read_taken) top.s_axi_arvalid = 0;
        if (beat_taken) {
            beats.pop_front();
            top.s_axis_tvalid = 0;
        }
        if (!top.s_axis_tvalid && !beats.empty() && source.go()) {
            top.s_axis_tvalid = 1;
            top.s_axis_tdata = beats.front().data;
            top.s_axis_tkeep = beats.front().keep;
            top.s_axis_tlast = beats.front().last;
        }
        top.m_axis_tready = sink.go();
        ++cycles;
    }

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
            if (waited == 1000) fail("no answer at register " + std::to_string(address));
            cycle();
        }
        if (!write) *value = read_data;
        return response == 0 ? 0 : -1;
    }

    void send(const uint8_t* bytes, uint32_t length, bool whole) {
        for (uint32_t at = 0; at < length; at += beat_bytes) {
            Beat beat = {0, 0, whole && at + beat_bytes >= length};
            for (uint32_t lane = 0; lane < beat_bytes && at + lane < length; ++lane) {
                beat.data |= uint64_t{bytes[at + lane]} << (8 * lane);
                beat.keep |= 1u << lane;
            }
            beats.push_back(beat);
        }
    }

    uint32_t receive(uint32_t* to, uint32_t length) {
        uint32_t taken = 0;
        for (uint32_t i = 0; words.empty() && i < idle_cycles; ++i) cycle();
        for (; taken < length && !words.empty(); ++taken) {
            to[taken] = words.front();
            words.pop_front();
        }
        return taken;
    }

    // The DMA of the frames is reset: what it has not sent is forgotten.
    void abandon() {
        beats.clear();
        top.s_axis_tvalid = 0;
    }

    std::deque<Beat> beats;
    uint64_t cycles = 0;

  private:
    void edge_only() {
        top.clk = 1;
        top.eval();
    }
    void edge() {
        top.clk = 0;
        top.eval();
        edge_only();
    }
    VerilatedContext context;
    Model top{&context};
    Pauses source, sink;
    std::deque<uint32_t> words;
    bool answered = false;
    uint32_t response = 0;
    uint32_t read_data = 0;
};

int port_read(void* context, uint32_t address, uint32_t* value) {
    return static_cast<System*>(context)->access(address, false, value);
}

int port_write(void* context, uint32_t address, uint32_t value) {
    return static_cast<System*>(context)->access(address, true, &value);
}

int port_send(void* context, const uint8_t* bytes, uint32_t length) {
    static_cast<System*>(context)->send(bytes, length, true);
    return 0;
}

int port_receive(void* context, uint32_t* words, uint32_t length, uint32_t* received) {
    *received = static_cast<System*>(context)->receive(words, length);
    return 0;
}

std::vector<uint8_t> read_file(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) fail("cannot read " + path);
    std::vector<uint8_t> content;
    uint8_t buffer[65536];
    for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, file)) > 0;)
        content.insert(content.end(), buffer, buffer + count);
    std::fclose(file);
    return content;
}

void fetch(const lmht_port_t& port, uint32_t polls, lmht_frame_result_t& result) {
    bool complete = false;
    require(lmht_begin_result(&result), "lmht_begin_result");
    for (uint32_t poll = 0; poll < polls && !complete; ++poll)
        require(lmht_fetch_result(&port, &result, &complete), "lmht_fetch_result");
    if (!complete) fail("a result did not come");
}

// A frame in the middle of which everything is given up, and a packet that is too short.
void disturb(System& system, const lmht_port_t& port, const uint8_t* frame, uint32_t round, uint32_t polls) {
    lmht_frame_result_t result;
    const uint32_t part = round % (LMHT_FRAME_BYTES - 1) + 1;
    system.send(frame, part, false);
    for (uint32_t i = 0; i < 7 * round % 200; ++i) system.cycle();
    system.abandon();
    require(lmht_soft_reset(&port, true), "lmht_soft_reset");

    system.send(frame, part, true);
    fetch(port, polls, result);
    uint32_t winner = 0;
    bool flagged = false;
    require(lmht_get_class(&result, &winner, &flagged), "lmht_get_class");
    if (!flagged) fail("a packet of " + std::to_string(part) + " bytes was not flagged");
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> options;
    for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
    const auto number = [&](const char* name) { return std::stod(options.count(name) ? options[name] : "0"); };
    const std::vector<uint8_t> image = read_file(options["--image"]), frames = read_file(options["--frames"]);
    const auto polls = static_cast<uint32_t>(number("--polls"));
    const auto every = static_cast<uint32_t>(number("--disturb-every"));
    const auto count = static_cast<uint32_t>(frames.size() / LMHT_FRAME_BYTES);
    System system(static_cast<uint64_t>(number("--seed")), number("--idle"), number("--back-pressure"));
    const lmht_port_t port = {&system, port_read, port_write, port_send, port_receive};

    require(lmht_load_image(&port, image.data(), static_cast<uint32_t>(image.size())), "lmht_load_image");
    require(lmht_enable(&port, true), "lmht_enable");
    std::FILE* results = std::fopen(options["--results"].c_str(), "wb");
    if (!results) fail("cannot write " + options["--results"]);

    const auto start = std::chrono::steady_clock::now();
    const uint64_t begin = system.cycles;
    lmht_frame_result_t result;
    uint32_t sent = 0;
    for (uint32_t frame = 0; frame < count; ++frame) {
        if (every && frame % every == 0) disturb(system, port, &frames[size_t{frame} * LMHT_FRAME_BYTES], frame + 1, polls);
        const uint32_t ahead = every ? 1 : frames_in_flight;
        for (; sent < count && sent < frame + ahead; ++sent)
            require(lmht_send_frame(&port, &frames[size_t{sent} * LMHT_FRAME_BYTES], LMHT_FRAME_BYTES), "lmht_send_frame");
        fetch(port, polls, result);
        int64_t record[LMHT_CLASSES + 2];
        uint32_t winner = 0;
        bool flagged = false;
        for (uint32_t i = 0; i < LMHT_CLASSES; ++i)
            require(lmht_get_logit(&result, i, &record[i]), "lmht_get_logit");
        require(lmht_get_class(&result, &winner, &flagged), "lmht_get_class");
        record[LMHT_CLASSES] = winner;
        record[LMHT_CLASSES + 1] = flagged;
        std::fwrite(record, sizeof record, 1, results);
    }
    std::fclose(results);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

    uint32_t counted = 0;
    require(lmht_snapshot(&port, false), "lmht_snapshot");
    require(lmht_read_register(&port, LMHT_REG_READOUT_FRAMES, &counted), "lmht_read_register");
    lmht_errors_t errors;
    require(lmht_read_errors(&port, &errors), "lmht_read_errors");
    std::printf("{\"cycles\": %llu, \"seconds\": %.6f, \"frames\": %u, \"errors\": %s, \"first_stage\": %u}\n",
                static_cast<unsigned long long>(system.cycles - begin), seconds.count(), counted,
                errors.any ? "true" : "false", errors.first_stage);
    return 0;
}
