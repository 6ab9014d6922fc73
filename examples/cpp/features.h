// From samples to what the encoder reads.
#pragma once

#include <vector>

#include "speech.h"

// Whisper's log-mel spectrogram (mels, frames) of the window, silence behind the samples; or the samples themselves.
std::vector<float> features(const Speech& speech, std::vector<float> samples);
