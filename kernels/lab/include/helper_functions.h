// helper_functions.h - what NVIDIA's samples call beside CUDA: options, stop watches, comparisons. Pictures and files are not here.
#pragma once

#include <cmath>

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
