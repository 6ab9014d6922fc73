// What model.pte does not say: how audio becomes its input, which tokens begin and end a transcript, their text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Speech {
  int rate = 16000;
  bool log_mel = false;  // else the model hears samples
  int fft = 0, hop = 0, mels = 0, frames = 0;
  std::vector<float> filters;  // (mels, fft / 2 + 1)
  int least_samples = 1, most_samples = 0;
  std::vector<int64_t> prompt;     // -1 where the language stands, if it is to be heard
  std::vector<int64_t> languages;  // among which it is heard
  std::vector<int64_t> ends, suppressed, suppressed_first;
  int most_tokens = 0;
  std::vector<std::string> pieces;  // the bytes of each token

  // Reads runner.txt and runner.bin of an exported folder; throws std::runtime_error if they do not fit this program.
  static Speech read(const std::string& folder);
};
