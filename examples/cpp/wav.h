// Samples of a WAV file.
#pragma once

#include <string>
#include <vector>

// Mono float32, full scale 1, of a PCM file of 16 bits or a float file of 32 bits; channels are averaged.
// Throws std::runtime_error for anything else, and for another rate: this program does not resample.
std::vector<float> read_wav(const std::string& path, int rate);
