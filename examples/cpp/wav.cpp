#include "wav.h"

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace {

template <typename T>
T at(const std::vector<char>& bytes, size_t place, const std::string& path) {
  if (place + sizeof(T) > bytes.size()) throw std::runtime_error(path + " ends too early");
  T value;
  std::memcpy(&value, bytes.data() + place, sizeof(T));
  return value;
}

}  // namespace

std::vector<float> read_wav(const std::string& path, int rate) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "RIFF", 4) || std::memcmp(bytes.data() + 8, "WAVE", 4))
    throw std::runtime_error(path + " is no WAV file");

  uint16_t format = 0, channels = 0, bits = 0;
  for (size_t place = 12; place + 8 <= bytes.size();) {
    const auto size = at<uint32_t>(bytes, place + 4, path);
    const size_t content = place + 8;
    if (!std::memcmp(bytes.data() + place, "fmt ", 4)) {
      format = at<uint16_t>(bytes, content, path);
      channels = at<uint16_t>(bytes, content + 2, path);
      const auto found = at<uint32_t>(bytes, content + 4, path);
      bits = at<uint16_t>(bytes, content + 14, path);
      if (format == 0xFFFE) format = at<uint16_t>(bytes, content + 24, path);
      if (found != static_cast<uint32_t>(rate))
        throw std::runtime_error(path + " has " + std::to_string(found) + " samples a second; " +
                                 std::to_string(rate) + " would work");
    } else if (!std::memcmp(bytes.data() + place, "data", 4)) {
      const bool pcm = format == 1 && bits == 16, real = format == 3 && bits == 32;
      if (!channels || (!pcm && !real)) throw std::runtime_error(path + ": 16-bit PCM or 32-bit float would work");
      if (content + size > bytes.size()) throw std::runtime_error(path + " ends too early");
      const size_t frames = size / (channels * bits / 8);
      std::vector<float> samples(frames);
      for (size_t i = 0; i < frames; ++i)
        for (size_t c = 0; c < channels; ++c) {
          const size_t value = content + (i * channels + c) * bits / 8;
          samples[i] += (pcm ? at<int16_t>(bytes, value, path) / 32768.0f : at<float>(bytes, value, path)) / channels;
        }
      return samples;
    }
    place = content + size + size % 2;
  }
  throw std::runtime_error(path + " holds no samples");
}
