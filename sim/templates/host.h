// What the programs around a Verilated design share: errors, files, random pauses, and the status they leave.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>
#include <vector>

// Ends the program with one line that Python shows as it is.
[[noreturn]] inline void fail(const std::string& message) {
    std::fprintf(stderr, "error %s\n", message.c_str());
    std::exit(2);
}

struct File {  // closes itself; writes are buffered by the C library
    File(const std::string& path, const char* mode) : handle(std::fopen(path.c_str(), mode)), path(path) {
        if (!handle) fail(path + ": cannot be opened");
    }
    ~File() { std::fclose(handle); }
    File(const File&) = delete;
    void write(const void* data, size_t size) {
        if (std::fwrite(data, size, 1, handle) != 1) fail(path + ": cannot be written");
    }
    std::FILE* handle;
    std::string path;
};

inline std::vector<uint8_t> read_file(const std::string& path) {
    File file(path, "rb");
    std::vector<uint8_t> bytes;
    std::fseek(file.handle, 0, SEEK_END);
    bytes.resize(static_cast<size_t>(std::ftell(file.handle)));
    std::rewind(file.handle);
    if (!bytes.empty() && std::fread(bytes.data(), bytes.size(), 1, file.handle) != 1) fail(path + ": cannot be read");
    return bytes;
}

class Random {  // xorshift64
  public:
    explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u) {
        if (!state) state = 1;
        for (int i = 0; i < 16; ++i) draw();
    }
    // True with a probability given in units of 2^-32.
    bool below(uint64_t threshold) { return (draw() >> 32) < threshold; }

  private:
    uint64_t draw() {
        state ^= state << 13;
        state ^= state >> 7;
        return state ^= state << 17;
    }
    uint64_t state;
};

// A probability, 0 to 1, in units of 2^-32.
inline uint64_t probability(const std::string& text) {
    return static_cast<uint64_t>(std::min(1.0, std::max(0.0, std::stod(text))) * 4294967296.0);
}

struct Range {  // images first … end - 1
    uint64_t first = 0, end = 0;
};

inline Range range(const std::string& text) {
    const size_t colon = text.find(':');
    return {std::stoull(text.substr(0, colon)), std::stoull(text.substr(colon + 1))};
}

class Options {  // --name value ...
  public:
    Options(int argc, char** argv) {
        for (int i = 1; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
    }
    bool has(const char* name) const { return values.count(name); }
    std::string text(const char* name, const char* otherwise) const {
        const auto found = values.find(name);
        return found == values.end() ? std::string(otherwise) : found->second;
    }
    uint64_t number(const char* name, const char* otherwise) const { return std::stoull(text(name, otherwise)); }

  private:
    std::map<std::string, std::string> values;
};

// Seconds that this program has had a processor: unlike a clock's, they say the same on a busy machine.
inline double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Outcome {  // of a stream of frames
    uint64_t received = 0, surplus = 0;  // results; words of results nobody asked for
    bool stalled = false;
    uint64_t cycles = 0;
    double seconds = 0, processor_seconds = 0;
};

// status.json; `taps` and `fifos` are the members of JSON objects.
inline void write_status(const std::string& path, const Outcome& outcome, const std::string& taps,
                         const std::string& fifos, const std::map<std::string, uint32_t>& registers) {
    File file(path, "w");
    const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
    std::fprintf(file.handle, "{\"received\": %llu, \"surplus\": %llu, \"stalled\": %s,\n", number(outcome.received),
                 number(outcome.surplus), outcome.stalled ? "true" : "false");
    std::fprintf(file.handle, "\"cycles\": %llu, \"seconds\": %.9f, \"processor_seconds\": %.9f,\n",
                 number(outcome.cycles), outcome.seconds, outcome.processor_seconds);
    std::fprintf(file.handle, "\"taps\": {%s},\n\"fifos\": {%s},\n\"registers\": {", taps.c_str(), fifos.c_str());
    const char* separator = "";
    for (const auto& [name, value] : registers) {
        std::fprintf(file.handle, "%s\"%s\": %u", separator, name.c_str(), value);
        separator = ",\n";
    }
    std::fprintf(file.handle, "}}\n");
}
