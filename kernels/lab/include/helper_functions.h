// helper_functions.h - what NVIDIA's samples call beside CUDA: options, stop watches, comparisons, files of numbers. Pictures are not here.
#pragma once

#include <cmath>
#include <cstdio>
#include <fstream>
#include <vector>

#include "helper_string.h"
#include "helper_timer.h"

template <class T>
bool wl_compare(const T* reference, const T* data, unsigned count, float epsilon) {
  double error = 0, size = 0;
  for (unsigned i = 0; i < count; ++i) {
    const double difference = static_cast<double>(reference[i]) - static_cast<double>(data[i]);
    error += difference * difference;
    size += static_cast<double>(reference[i]) * static_cast<double>(reference[i]);
  }
  return error <= static_cast<double>(epsilon) * static_cast<double>(epsilon) * (size > 0 ? size : 1);
}
inline bool sdkCompareL2fe(const float* reference, const float* data, unsigned count, float epsilon) {
  return wl_compare(reference, data, count, epsilon);
}
inline bool compareData(const float* reference, const float* data, unsigned count, float epsilon, float = 0) {
  return wl_compare(reference, data, count, epsilon);
}
inline bool compareData(const int* reference, const int* data, unsigned count, float epsilon, float = 0) {
  return wl_compare(reference, data, count, epsilon);
}
// A text file: a first line with the tolerance, then the numbers.
template <class T, class S>
bool sdkWriteFile(const char* name, const T* data, unsigned count, const S epsilon, bool verbose, bool append = false) {
  std::ofstream file(name, append ? std::ios::app : std::ios::trunc);
  if (file) file << "# " << epsilon << "\n";
  for (unsigned i = 0; i < count && file; ++i) file << data[i] << ' ';
  if (file) file << std::endl;
  if (!file && verbose) fprintf(stderr, "%s cannot be written\n", name);
  return static_cast<bool>(file);
}
// *data: room for *count numbers, or null, for which malloc() then finds room.
template <class T>
bool sdkReadFile(const char* name, T** data, unsigned* count, bool verbose) {
  std::ifstream file(name);
  std::string comment;
  if (file.peek() == '#') std::getline(file, comment);
  std::vector<T> found;
  for (T value; file >> value;) found.push_back(value);
  if (found.empty() || (*data && *count != found.size())) {
    if (verbose) fprintf(stderr, "%s cannot be read, or holds %zu numbers\n", name, found.size());
    return false;
  }
  if (!*data) *data = static_cast<T*>(malloc(found.size() * sizeof(T)));
  *count = static_cast<unsigned>(found.size());
  std::copy(found.begin(), found.end(), *data);
  return true;
}
