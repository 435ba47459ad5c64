// Streams a file of frames through the Verilated design and records every result.
//
//   harness --image image.bin --frames frames.bin --count N --results results.bin --status status.json [options]
//
// The inputs of a cycle are set after a rising edge, the outputs are read before the next one: both sides see exactly
// the values the registers see.
#include <chrono>
#include <cstring>
#include <map>
#include <memory>

#include "harness_model.h"
#include "harness_taps.h"

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Run : Outcome {
    explicit Run(const std::vector<uint8_t>& frames) : frames(frames) {}
    const std::vector<uint8_t>& frames;
    uint64_t count = 0;           // images to stream
    uint64_t idle = 0;            // probability that no beat is offered, in units of 2^-32
    uint64_t back_pressure = 0;   // probability that no result is accepted
    uint64_t seed = 0;
    uint64_t timeout = 0;         // cycles without any transfer after which the design counts as stalled
    Range observed, waved;        // images whose events, or waveform, are recorded
    std::string wave_path;
    File* results = nullptr;
    File* events = nullptr;

    uint64_t begun = 0;           // images of which a beat was taken
};

// Streams all frames. `Stress` adds idle and back-pressure, `Observe` taps and waveform; without them the loop holds
// nothing but the handshakes, since it runs once per simulated cycle.
template <bool Stress, bool Observe>
void stream(Simulation& simulation, Taps& taps, Fifos& fifos, Run& run) {
    Model& top = simulation.top;
    Random random(run.seed);
    const uint8_t* bytes = run.frames.data();
    std::vector<uint64_t> first_beat(run.count);
    ImageRecord record;
    const auto clear = [&] {
        std::memset(&record, 0, sizeof record);
        std::fill(std::begin(record.logits), std::end(record.logits), INT64_MIN);
    };
    clear();
    int beat = 0;
    const auto offer = [&] {
        const int done = beat * design::bytes_per_beat;
        set_beat(top.frames___05Fpayload, bytes + run.begun * design::frame_bytes + done, design::frame_bytes - done,
                 beat == design::beats - 1);
    };
    bool valid = false, more = run.count > 0;
    bool waving = false;
    const auto start = Clock::now();
    const double begun_seconds = processor_seconds();
    auto reported = start;
    const uint64_t origin = simulation.now();
    uint64_t now = 0, moved = 0;
    while (run.received < run.count) {
        if (!valid && more && !(Stress && random.below(run.idle))) {
            offer();
            valid = true;
            top.frames___05Fvalid = 1;
        }
        const bool ready = !(Stress && random.below(run.back_pressure));
        top.results___05Fready = ready;
        if constexpr (Observe) {
            const bool wanted = run.begun >= run.waved.first && run.received < run.waved.end;
            if (wanted && !waving && !run.wave_path.empty()) {
                simulation.open_waveform(run.wave_path.c_str());
                waving = true;
            }
            if (!wanted && waving) simulation.close_waveform();
        }
        simulation.settle();
        fifos.sample();
        if constexpr (Observe) taps.sample(now, run.observed, run.events ? run.events->handle : nullptr);
        const bool sent = valid && top.frames___05Fready;
        if (ready && top.results___05Fvalid) {
            const auto& word = top.results___05Fpayload;
            const uint64_t channel = bits(word, design::result_channel);
            moved = now;
            if (bits(word, design::result_last)) {
                record.first_beat = first_beat[run.received];
                record.result = now;
                record.winner = static_cast<uint32_t>(channel);
                record.error = static_cast<uint8_t>(bits(word, design::result_error));
                run.results->write(&record, sizeof record);
                clear();
                ++run.received;
                if ((run.received & 15) == 0 && seconds_since(reported) > 0.1) {
                    std::fprintf(stderr, "progress %llu\n", static_cast<unsigned long long>(run.received));
                    reported = Clock::now();
                }
            } else {
                ++record.words;
                if (channel < design::classes) record.logits[channel] = signed_bits(word, design::result_value);
            }
        }
        simulation.rise();
        if (sent) {
            moved = now;
            valid = false;
            if (beat == 0) first_beat[run.begun] = now;
            if (++beat == design::beats) {
                beat = 0;
                more = ++run.begun < run.count;
            }
            top.frames___05Fvalid = 0;
        }
        ++now;
        if (now - moved > run.timeout) {
            run.stalled = true;
            break;
        }
    }
    run.seconds = seconds_since(start);
    run.processor_seconds = processor_seconds() - begun_seconds;
    run.cycles = simulation.now() - origin;
    top.frames___05Fvalid = 0;
    // Registered pulses need some cycles to reach the counters; results nobody asked for would show up here.
    top.results___05Fready = 1;
    for (int i = 0; i < 64 && !run.stalled; ++i) {
        simulation.settle();
        run.surplus += top.results___05Fvalid;
        simulation.rise();
    }
    if (run.stalled) {
        simulation.settle();
        taps.look();
    }
}

// The bare model: the same frames, always valid, always ready, nothing recorded. Its speed is the harness's limit.
void stream_bare(Simulation& simulation, Run& run) {
    Model& top = simulation.top;
    top.results___05Fready = 1;
    const uint64_t total = run.count * design::beats;
    uint64_t sent = 0, cycle = 0, moved = 0;
    set_beat(top.frames___05Fpayload, run.frames.data(), design::frame_bytes, design::beats == 1);
    top.frames___05Fvalid = 1;
    const auto start = Clock::now();
    for (; sent < total && cycle - moved <= run.timeout; ++cycle) {
        top.clk = 0;
        top.eval();
        const bool taken = top.frames___05Fready;
        top.clk = 1;
        top.eval();
        if (taken) {
            moved = cycle;
            ++sent;
            const uint64_t image = sent / design::beats % run.count;
            const int beat = static_cast<int>(sent % design::beats), done = beat * design::bytes_per_beat;
            set_beat(top.frames___05Fpayload, run.frames.data() + image * design::frame_bytes + done,
                     design::frame_bytes - done, beat == design::beats - 1);
        }
    }
    run.seconds = seconds_since(start);
    run.cycles = cycle;
    run.received = sent / design::beats;
    run.stalled = sent < total;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options(argc, argv);
    const std::vector<uint8_t> frames = read_file(options.text("--frames", ""));
    Run run{frames};
    run.count = options.number("--count", "0");
    if (frames.size() != run.count * design::frame_bytes)
        fail("the frames file must have " + std::to_string(run.count * design::frame_bytes) + " bytes, not " +
             std::to_string(frames.size()));
    run.idle = probability(options.text("--idle", "0"));
    run.back_pressure = probability(options.text("--back-pressure", "0"));
    run.seed = options.number("--seed", "0");
    run.timeout = options.number("--timeout", "1000000");
    run.observed = range(options.text("--observe", "0:0"));
    run.waved = range(options.text("--wave-images", "0:0"));
    run.wave_path = options.text("--wave", "");

    Simulation simulation;
    for (int i = 0; i < 2; ++i) {
        const uint32_t expected = i ? design::hash_high : design::hash_low;
        const uint32_t found = simulation.read(i ? design::address::hash_high : design::address::hash_low);
        if (found != expected) fail("the simulated design is another one than the harness was made for");
    }
    const std::string image_path = options.text("--image", "");
    load_image(simulation, read_file(image_path), image_path);
    simulation.write(design::address::command, design::command_clear);
    simulation.write(design::address::control, design::control_enable);

    Taps taps(simulation.context);
    Fifos fifos(simulation.context);
    if (options.has("--bare")) {
        stream_bare(simulation, run);
    } else {
        File results(options.text("--results", ""), "wb");
        std::unique_ptr<File> events;
        if (options.has("--events")) events = std::make_unique<File>(options.text("--events", ""), "wb");
        run.results = &results;
        run.events = events.get();
        const bool stress = run.idle || run.back_pressure;
        const bool observe = run.events || !run.wave_path.empty();
        if (observe)
            stress ? stream<true, true>(simulation, taps, fifos, run)
                   : stream<false, true>(simulation, taps, fifos, run);
        else
            stress ? stream<true, false>(simulation, taps, fifos, run)
                   : stream<false, false>(simulation, taps, fifos, run);
    }
    simulation.write(design::address::command, design::command_snapshot);
    std::map<std::string, uint32_t> registers;
    for (const auto& entry : design::registers) registers[entry.name] = simulation.read(entry.address);
    write_status(options.text("--status", ""), run, taps.json(), fifos.json(), registers);
    return 0;
}
