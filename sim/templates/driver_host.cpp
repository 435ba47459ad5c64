// Streams a file of frames through the C driver and the AXI ports of the Verilated design and records every result.
//
//   driver --image image.bin --frames frames.bin --count N --results results.bin --status status.json [options]
//
// The hardware is touched through the driver's calls alone, but for what --disturb breaks on purpose.
#include <chrono>
#include <cstring>
#include <map>
#include <memory>

#include "driver_system.h"
#include "lmht.h"

namespace {

constexpr uint64_t frames_in_flight = 4;
constexpr uint64_t settling_cycles = 64;  // in which registered pulses reach the counters

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

const char* name_of(lmht_status_t status) {
    switch (status) {
        case LMHT_OK: return "LMHT_OK";
        case LMHT_ERR_ARGUMENT: return "LMHT_ERR_ARGUMENT";
        case LMHT_ERR_BUS: return "LMHT_ERR_BUS";
        case LMHT_ERR_NO_CORE: return "LMHT_ERR_NO_CORE";
        case LMHT_ERR_VERSION: return "LMHT_ERR_VERSION";
        case LMHT_ERR_DESIGN: return "LMHT_ERR_DESIGN";
        case LMHT_ERR_IMAGE_LENGTH: return "LMHT_ERR_IMAGE_LENGTH";
        case LMHT_ERR_IMAGE_FORMAT: return "LMHT_ERR_IMAGE_FORMAT";
        case LMHT_ERR_IMAGE_CORRUPTED: return "LMHT_ERR_IMAGE_CORRUPTED";
        case LMHT_ERR_IMAGE_LAYOUT: return "LMHT_ERR_IMAGE_LAYOUT";
        case LMHT_ERR_LOAD_FAILED: return "LMHT_ERR_LOAD_FAILED";
        case LMHT_ERR_FRAME_LENGTH: return "LMHT_ERR_FRAME_LENGTH";
        case LMHT_ERR_TIMEOUT: return "LMHT_ERR_TIMEOUT";
        case LMHT_ERR_INCOMPLETE: return "LMHT_ERR_INCOMPLETE";
    }
    return "a status that the driver does not have";
}

void require(lmht_status_t status, const char* call) {
    if (status != LMHT_OK) fail(std::string(call) + " returned " + name_of(status));
}

int port_read(void* context, uint32_t address, uint32_t* value) {
    return static_cast<System*>(context)->access(address, false, value);
}

int port_write(void* context, uint32_t address, uint32_t value) {
    return static_cast<System*>(context)->access(address, true, &value);
}

int port_send(void* context, const uint8_t* bytes, uint32_t length) {
    static_cast<System*>(context)->send(bytes, length);
    return 0;
}

int port_receive(void* context, uint32_t* words, uint32_t length, uint32_t* received) {
    *received = static_cast<System*>(context)->receive(words, length);
    return 0;
}

class Session {  // a loaded core, its driver, and the frames
  public:
    Session(System& system, const std::vector<uint8_t>& image, const std::vector<uint8_t>& frames)
        : system(system), frames(frames), port{&system, port_read, port_write, port_send, port_receive} {
        require(lmht_load_image(&port, image.data(), static_cast<uint32_t>(image.size())), "lmht_load_image");
        require(lmht_enable(&port, true), "lmht_enable");
    }

    // All frames; their results into `records`. Before every `disturb`th frame, if that is not 0, disturb().
    void stream(uint64_t count, uint64_t disturb_every, File& records) {
        const auto start = Clock::now();
        auto reported = start;
        const double begun_seconds = processor_seconds();
        const uint64_t origin = system.cycles;
        uint64_t sent = 0, end = count;
        while (outcome.received < count) {
            const uint64_t frame = outcome.received;
            if (disturb_every && frame % disturb_every == 0) {
                // Nothing is in flight now, so that what is counted from here on is the disturbance alone.
                count_up();
                disturb(frame / disturb_every, at(frame));
                end = std::min(count, frame + disturb_every);
            }
            for (; sent < end && sent < frame + frames_in_flight; ++sent)
                require(lmht_send_frame(&port, at(sent), LMHT_FRAME_BYTES), "lmht_send_frame");
            lmht_frame_result_t result;
            if (!fetch(result)) {
                outcome.stalled = true;
                break;
            }
            write(result, origin, records);
            ++outcome.received;
            if ((outcome.received & 15) == 0 && seconds_since(reported) > 0.1) {
                std::fprintf(stderr, "progress %llu\n", static_cast<unsigned long long>(outcome.received));
                reported = Clock::now();
            }
        }
        outcome.seconds = seconds_since(start);
        outcome.processor_seconds = processor_seconds() - begun_seconds;
        outcome.cycles = system.cycles - origin;
        if (outcome.stalled) system.taps.look();
        count_up();
        outcome.surplus = system.words_left();
    }

    Outcome outcome;
    std::map<std::string, uint32_t> registers;  // counters, errors: disturbances left out

  private:
    const uint8_t* at(uint64_t frame) const { return frames.data() + frame * LMHT_FRAME_BYTES; }

    // False if nothing has moved for too long.
    bool fetch(lmht_frame_result_t& result) {
        bool complete = false;
        require(lmht_begin_result(&result), "lmht_begin_result");
        while (!complete && !system.stalled())
            require(lmht_fetch_result(&port, &result, &complete), "lmht_fetch_result");
        return complete;
    }

    void write(const lmht_frame_result_t& result, uint64_t origin, File& records) {
        ImageRecord record;
        std::memset(&record, 0, sizeof record);
        bool flagged = false;
        for (uint32_t neuron = 0; neuron < LMHT_CLASSES; ++neuron)
            require(lmht_get_logit(&result, neuron, &record.logits[neuron]), "lmht_get_logit");
        require(lmht_get_class(&result, &record.winner, &flagged), "lmht_get_class");
        record.words = LMHT_CLASSES;
        record.error = flagged;
        record.first_beat = system.first_beats.front() - origin;
        record.result = system.results.front() - origin;
        system.first_beats.pop_front();
        system.results.pop_front();
        records.write(&record, sizeof record);
    }

    // Adds what the core has counted since the last clear.
    void count_up() {
        system.wait(settling_cycles);
        require(lmht_snapshot(&port, false), "lmht_snapshot");
        for (const auto& entry : design::registers) {
            uint32_t value = 0;
            require(lmht_read_register(&port, entry.address, &value), "lmht_read_register");
            uint32_t& total = registers[entry.name];
            switch (entry.join) {
                case design::Join::latest: total = value; break;
                case design::Join::any: total |= value; break;
                case design::Join::sum: total += value; break;
            }
        }
    }

    // Frames given up in the middle by a soft reset, then a malformed packet. Nothing of it may be left afterwards.
    void disturb(uint64_t round, const uint8_t* frame) {
        system.muted = true;
        if (round % 2 && design::beats > 1) {
            swallow(round, frame);
        } else {
            forget(round, frame);
        }
        malform(static_cast<uint32_t>(round / 2), frame);
        system.wait(settling_cycles);
        if (system.words_left()) fail("words of a result are left after a disturbance");
        require(lmht_snapshot(&port, true), "lmht_snapshot");
        system.muted = false;
    }

    // The core is reset in the middle of a frame whose rest comes nevertheless.
    void swallow(uint64_t round, const uint8_t* frame) {
        system.send(frame, LMHT_FRAME_BYTES);
        const uint64_t middle = 1 + round % (design::beats - 1);
        while (system.begun() < middle && !system.stalled()) system.cycle();
        require(lmht_soft_reset(&port, false), "lmht_soft_reset");
        while (system.sending() && !system.stalled()) system.cycle();
        if (system.sending()) fail("the rest of a frame was not swallowed after a soft reset");
    }

    // Core and DMA are reset while frames are in flight, the last one of which has come in part.
    void forget(uint64_t round, const uint8_t* frame) {
        for (uint64_t whole = 0; whole < round % 3; ++whole) system.send(frame, LMHT_FRAME_BYTES);
        system.send(frame, static_cast<uint32_t>(1 + 7 * round % LMHT_FRAME_BYTES), false);
        system.wait(1 + 17 * round % (4 * uint64_t{design::beats}));
        system.abandon();
        require(lmht_soft_reset(&port, true), "lmht_soft_reset");
    }

    // A packet too short, too long, or without one of its bytes gives a flagged result and a sticky error.
    void malform(uint32_t round, const uint8_t* frame) {
        const uint32_t kind = LMHT_FRAME_BYTES > 1 ? round % 3 : 1;
        std::vector<uint8_t> bytes(frame, frame + LMHT_FRAME_BYTES);
        if (kind == 0) bytes.resize(1 + round % (LMHT_FRAME_BYTES - 1));
        // What lies behind the frame in its last beat is not looked at.
        if (kind == 1) bytes.resize(LMHT_BEATS_PER_FRAME * LMHT_BYTES_PER_BEAT + 1 + round % 16, 1);
        const char* const what[] = {"too short", "too long", "without one of its bytes"};
        const std::string packet = std::string("a packet ") + what[kind];
        system.send(bytes.data(), static_cast<uint32_t>(bytes.size()), true,
                    kind == 2 ? round % LMHT_FRAME_BYTES : System::no_byte);
        lmht_frame_result_t result;
        if (!fetch(result)) fail(packet + " gave no result");
        uint32_t winner = 0;
        bool flagged = false;
        require(lmht_get_class(&result, &winner, &flagged), "lmht_get_class");
        if (!flagged) fail("the result of " + packet + " is not flagged");
        lmht_errors_t errors;
        require(lmht_read_errors(&port, &errors), "lmht_read_errors");
        if (!errors.any || !errors.has_first) fail(packet + " left no error in the registers");
    }

    System& system;
    const std::vector<uint8_t>& frames;
    const lmht_port_t port;
};

}  // namespace

int main(int argc, char** argv) {
    const Options options(argc, argv);
    const std::vector<uint8_t> image = read_file(options.text("--image", ""));
    const std::vector<uint8_t> frames = read_file(options.text("--frames", ""));
    const uint64_t count = options.number("--count", "0");
    if (frames.size() != count * LMHT_FRAME_BYTES)
        fail("the frames file must have " + std::to_string(count * LMHT_FRAME_BYTES) + " bytes, not " +
             std::to_string(frames.size()));
    System system(options.number("--seed", "0"), probability(options.text("--idle", "0")),
                  probability(options.text("--back-pressure", "0")), options.number("--timeout", "1000000"));
    Session session(system, image, frames);

    std::unique_ptr<File> events;
    if (options.has("--events")) {
        events = std::make_unique<File>(options.text("--events", ""), "wb");
        system.events = events->handle;
        system.observed = range(options.text("--observe", "0:0"));
    }
    File results(options.text("--results", ""), "wb");
    session.stream(count, options.number("--disturb", "0"), results);
    write_status(options.text("--status", ""), session.outcome, system.taps.json(), system.fifos.json(),
                 session.registers);
    return 0;
}
