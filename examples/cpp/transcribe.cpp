// Transcribes a WAV file with a folder that `sottovoce export --to executorch` wrote: no Python, no torch.
//
//   transcribe FOLDER SPEECH.wav [--threads N] [--tokens] [--times]

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/platform.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>

#include "features.h"
#include "speech.h"
#include "wav.h"

using executorch::extension::from_blob;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::EValue;

// The wheel ships the thread pool without its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace {

class Recognizer {
 public:
  explicit Recognizer(const std::string& folder)
      : speech(Speech::read(folder)), module_(folder + "/model.pte", Module::LoadMode::File) {
    check(module_.load_method("encoder"), "load the encoder");
    check(module_.load_method("text_decoder"), "load the decoder");
  }

  void hear(std::vector<float> samples) {
    const int found = static_cast<int>(samples.size());
    if (found < speech.least_samples || found > speech.most_samples)
      throw std::runtime_error("the clip has " + std::to_string(found) + " samples; " +
                               std::to_string(speech.least_samples) + " to " + std::to_string(speech.most_samples) +
                               " would work");
    std::vector<float> made = features(speech, std::move(samples));
    const auto shape = speech.log_mel ? std::vector<int>{1, speech.mels, speech.frames}
                                      : std::vector<int>{1, static_cast<int>(made.size())};
    auto input = from_blob(made.data(), {shape.begin(), shape.end()});
    auto outputs = module_.execute("encoder", EValue(input));
    if (!outputs.ok()) throw std::runtime_error("the encoder failed");
    heard_ = std::move(*outputs);
  }

  // The scores of what follows a token at a place.
  const float* step(int64_t token, int64_t place) {
    auto fed = from_blob(&token, {1, 1}, executorch::aten::ScalarType::Long);
    auto where = from_blob(&place, {1}, executorch::aten::ScalarType::Long);
    std::vector<EValue> inputs{EValue(fed), EValue(where)};
    inputs.insert(inputs.end(), heard_.begin(), heard_.end());
    auto outputs = module_.execute("text_decoder", inputs);
    if (!outputs.ok()) throw std::runtime_error("the decoder failed");
    return (*outputs)[0].toTensor().const_data_ptr<float>();  // in the decoder's memory, until the next step
  }

  // The likeliest token each time, under the model's rules.
  std::vector<int64_t> transcribe() {
    int64_t place = 0;
    const float* scores = nullptr;
    for (int64_t token : speech.prompt) {
      if (token < 0) token = *std::max_element(speech.languages.begin(), speech.languages.end(),
                                              [&](auto a, auto b) { return scores[a] < scores[b]; });
      scores = step(token, place++);
    }
    std::vector<int64_t> tokens;
    while (static_cast<int>(tokens.size()) < speech.most_tokens) {
      const int64_t best = choose(scores, tokens.empty());
      if (std::count(speech.ends.begin(), speech.ends.end(), best)) break;
      tokens.push_back(best);
      if (static_cast<int>(tokens.size()) < speech.most_tokens) scores = step(best, place++);
    }
    return tokens;
  }

  const Speech speech;

 private:
  static void check(executorch::runtime::Error error, const char* what) {
    if (error != executorch::runtime::Error::Ok) throw std::runtime_error(std::string("cannot ") + what);
  }

  int64_t choose(const float* scores, bool first) const {
    std::vector<float> allowed(scores, scores + speech.pieces.size());  // a piece for each token of the vocabulary
    for (int64_t token : speech.suppressed) allowed[token] = -std::numeric_limits<float>::infinity();
    if (first)
      for (int64_t token : speech.suppressed_first) allowed[token] = -std::numeric_limits<float>::infinity();
    return std::max_element(allowed.begin(), allowed.end()) - allowed.begin();
  }

  Module module_;
  std::vector<EValue> heard_;  // keys and values, in the encoder's memory, until it hears again
};

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

long peak_kb() {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  char line[256];
  long found = 0;
  while (file && std::fgets(line, sizeof line, file))
    if (!std::strncmp(line, "VmHWM:", 6)) found = std::strtol(line + 6, nullptr, 10);
  if (file) std::fclose(file);
  return found;
}

std::string text(const Speech& speech, const std::vector<int64_t>& tokens) {
  std::string told;
  for (int64_t token : tokens) told += speech.pieces[token];
  const auto begin = told.find_first_not_of(' ');
  return begin == std::string::npos ? "" : told.substr(begin, told.find_last_not_of(' ') - begin + 1);
}

// ExecuTorch tells of each file in which it looks for a processor's name; errors come back as values anyway.
void quiet(et_timestamp_t, et_pal_log_level_t, const char*, const char*, size_t, const char*, size_t) {}

int run(int count, char** words) {
  std::vector<std::string> given;
  bool tokens = false, times = false;
  uint32_t threads = 0;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--tokens") tokens = true;
    else if (word == "--times") times = true;
    else if (word == "--threads" && i + 1 < count) threads = std::stoul(words[++i]);
    else given.push_back(word);
  }
  if (given.size() != 2 || given[0].starts_with("-") || given[1].starts_with("-")) {
    std::cerr << "usage: transcribe FOLDER SPEECH.wav [--threads N] [--tokens] [--times]\n";
    return 2;
  }
  executorch::runtime::register_pal(executorch::runtime::PalImpl::create(quiet, __FILE__));
  if (threads) executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(threads);
  auto start = std::chrono::steady_clock::now();
  Recognizer recognizer(given[0]);
  const double load = since(start);

  start = std::chrono::steady_clock::now();
  recognizer.hear(read_wav(given[1], recognizer.speech.rate));
  const double heard = since(start);
  start = std::chrono::steady_clock::now();
  const auto found = recognizer.transcribe();
  const double told = since(start);

  std::cout << text(recognizer.speech, found) << "\n";
  if (tokens) {
    for (int64_t token : found) std::cout << token << " ";
    std::cout << "\n";
  }
  if (times)
    std::fprintf(stderr, "load %.0f ms, features and encoder %.1f ms, %zu tokens %.1f ms, peak %.0f MB\n", load, heard,
                 found.size(), told, peak_kb() / 1024.0);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run(count, words);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
