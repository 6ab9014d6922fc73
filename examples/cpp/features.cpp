#include "features.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace {

// Power of a windowed frame at each frequency. The frame is folded first: cosines are even, sines odd.
class Spectrum {
 public:
  explicit Spectrum(int size) : size_(size), half_(size / 2), window_(size), cosines_((half_ + 1) * (half_ + 1)),
                                sines_(cosines_.size()), even_(half_ + 1), odd_(half_ + 1) {
    const double turn = 2 * std::numbers::pi / size;
    for (int i = 0; i < size; ++i) window_[i] = static_cast<float>(0.5 - 0.5 * std::cos(turn * i));
    for (int k = 0; k <= half_; ++k)
      for (int i = 0; i <= half_; ++i) {
        cosines_[k * (half_ + 1) + i] = static_cast<float>(std::cos(turn * (static_cast<long>(k) * i % size)));
        sines_[k * (half_ + 1) + i] = static_cast<float>(std::sin(turn * (static_cast<long>(k) * i % size)));
      }
  }

  void power(const float* frame, float* out) {
    even_[0] = frame[0] * window_[0];
    even_[half_] = frame[half_] * window_[half_];
    odd_[0] = odd_[half_] = 0;
    for (int i = 1; i < half_; ++i) {
      const float before = frame[i] * window_[i], after = frame[size_ - i] * window_[size_ - i];
      even_[i] = before + after;
      odd_[i] = before - after;
    }
    for (int k = 0; k <= half_; ++k) {
      const float *c = &cosines_[k * (half_ + 1)], *s = &sines_[k * (half_ + 1)];
      float real = 0, imaginary = 0;
      for (int i = 0; i <= half_; ++i) {
        real += even_[i] * c[i];
        imaginary += odd_[i] * s[i];
      }
      out[k] = real * real + imaginary * imaginary;
    }
  }

 private:
  int size_, half_;
  std::vector<float> window_, cosines_, sines_, even_, odd_;
};

}  // namespace

std::vector<float> features(const Speech& speech, std::vector<float> samples) {
  if (!speech.log_mel) return samples;
  samples.resize(static_cast<size_t>(speech.frames) * speech.hop, 0.0f);

  const int half = speech.fft / 2, bins = half + 1, last = static_cast<int>(samples.size()) - 1;
  std::vector<float> made(static_cast<size_t>(speech.mels) * speech.frames), frame(speech.fft), power(bins);
  Spectrum spectrum(speech.fft);
  float loudest = -1e9f;
  for (int t = 0; t < speech.frames; ++t) {
    for (int i = 0; i < speech.fft; ++i) {  // frames lie around their time; beyond the ends the signal is mirrored
      int place = std::abs(t * speech.hop + i - half);
      frame[i] = samples[place > last ? 2 * last - place : place];
    }
    spectrum.power(frame.data(), power.data());
    for (int m = 0; m < speech.mels; ++m) {
      float sum = 0;
      for (int k = 0; k < bins; ++k) sum += speech.filters[static_cast<size_t>(m) * bins + k] * power[k];
      const float value = std::log10(std::max(sum, 1e-10f));
      made[static_cast<size_t>(m) * speech.frames + t] = value;
      loudest = std::max(loudest, value);
    }
  }
  for (float& value : made) value = (std::max(value, loudest - 8.0f) + 4.0f) / 4.0f;
  return made;
}
