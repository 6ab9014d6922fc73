#include "speech.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace {

constexpr int kFormat = 1;

std::vector<int64_t> numbers(std::istringstream& line) {
  std::vector<int64_t> found;
  for (int64_t number; line >> number;) found.push_back(number);
  return found;
}

template <typename T>
void read_into(std::ifstream& file, T* where, size_t count, const std::string& path) {
  if (!file.read(reinterpret_cast<char*>(where), static_cast<std::streamsize>(count * sizeof(T))))
    throw std::runtime_error(path + " ends too early");
}

}  // namespace

Speech Speech::read(const std::string& folder) {
  std::ifstream text(folder + "/runner.txt");
  if (!text) throw std::runtime_error(folder + "/runner.txt cannot be read");
  Speech speech;
  size_t tokens = 0;
  for (std::string row, key; std::getline(text, row);) {
    std::istringstream line(row);
    line >> key;
    if (key == "format") {
      int format = 0;
      line >> format;
      if (format != kFormat) throw std::runtime_error(folder + " is for another version of this program");
    } else if (key == "rate") line >> speech.rate;
    else if (key == "log-mel") {
      speech.log_mel = true;
      line >> speech.fft >> speech.hop >> speech.mels >> speech.frames;
    } else if (key == "samples") line >> speech.least_samples >> speech.most_samples;
    else if (key == "prompt") speech.prompt = numbers(line);
    else if (key == "languages") speech.languages = numbers(line);
    else if (key == "ends") speech.ends = numbers(line);
    else if (key == "suppressed") speech.suppressed = numbers(line);
    else if (key == "suppressed-first") speech.suppressed_first = numbers(line);
    else if (key == "most-tokens") line >> speech.most_tokens;
    else if (key == "pieces") line >> tokens;
    else throw std::runtime_error(folder + "/runner.txt says " + key + ", which this program does not know");
  }

  const std::string path = folder + "/runner.bin";
  std::ifstream binary(path, std::ios::binary);
  if (speech.log_mel) {
    speech.filters.resize(static_cast<size_t>(speech.mels) * (speech.fft / 2 + 1));
    read_into(binary, speech.filters.data(), speech.filters.size(), path);
  }
  for (size_t i = 0; i < tokens; ++i) {
    uint16_t size = 0;
    read_into(binary, &size, 1, path);
    std::string piece(size, '\0');
    read_into(binary, piece.data(), size, path);
    speech.pieces.push_back(std::move(piece));
  }
  return speech;
}
