// helper_timer.h - stop watches, as NVIDIA's samples name them.
#pragma once

#include <chrono>

struct StopWatchInterface {
  std::chrono::steady_clock::time_point since;
  float total = 0;
  int sessions = 0;
  bool running = false;
};
inline float wl_since(const StopWatchInterface* t) {
  return std::chrono::duration<float, std::milli>(std::chrono::steady_clock::now() - t->since).count();
}
inline bool sdkCreateTimer(StopWatchInterface** t) {
  *t = new StopWatchInterface;
  return true;
}
inline bool sdkDeleteTimer(StopWatchInterface** t) {
  delete *t;
  *t = nullptr;
  return true;
}
inline bool sdkStartTimer(StopWatchInterface** t) {
  (*t)->since = std::chrono::steady_clock::now();
  return (*t)->running = true;
}
inline bool sdkStopTimer(StopWatchInterface** t) {
  (*t)->total += wl_since(*t);
  (*t)->running = false;
  ++(*t)->sessions;
  return true;
}
inline bool sdkResetTimer(StopWatchInterface** t) {
  (*t)->total = 0;
  (*t)->sessions = 0;
  (*t)->since = std::chrono::steady_clock::now();
  return true;
}
inline float sdkGetTimerValue(StopWatchInterface** t) { return (*t)->total + ((*t)->running ? wl_since(*t) : 0.0f); }
inline float sdkGetAverageTimerValue(StopWatchInterface** t) {
  return (*t)->sessions ? (*t)->total / static_cast<float>((*t)->sessions) : 0.0f;
}
