// streams.cpp - streams and events in order: everything is done when its call returns. What a real device might not have finished by then is
// remembered, so that a host which reads too early is found.
#include <algorithm>
#include <chrono>
#include <set>

#include "state.h"

struct CUstream_st {
  uint32_t number;
  bool blocking;  // waits for, and is waited for by, the default stream
};
struct CUevent_st {
  bool recorded = false, timed = true;
  std::chrono::steady_clock::time_point when;
  uint64_t serial = 0;  // launches up to here had been made
  uint32_t stream = 0;
};

namespace warploom {
namespace lab {
namespace {

struct Streams {
  std::set<cudaStream_t> open;
  std::set<cudaEvent_t> events;
  uint32_t next = 3;
  std::vector<bool> nonblocking = {false, false, false};  // by stream number
  // Launches that the host has not waited for, by launch number: its stream and serial.
  std::map<uint32_t, std::pair<uint32_t, uint64_t>> launches;
  std::vector<PendingCopy> copies;
  uint64_t serial = 0;
};
Streams& streams() {
  static Streams* s = new Streams;
  return *s;
}

void finish(uint32_t stream, uint64_t up_to) {
  Streams& s = streams();
  for (auto it = s.launches.begin(); it != s.launches.end();)
    it = it->second.first == stream && it->second.second <= up_to ? s.launches.erase(it) : std::next(it);
}
void drop_copies(uint32_t stream) {
  auto& copies = streams().copies;
  copies.erase(std::remove_if(copies.begin(), copies.end(), [&](const PendingCopy& c) { return c.stream == stream; }),
               copies.end());
}

}  // namespace

uint32_t stream_number(cudaStream_t stream) {
  const auto value = reinterpret_cast<uintptr_t>(stream);
  return value < 3 ? (value == 1 ? 0 : static_cast<uint32_t>(value)) : stream->number;
}
void note_launch(uint64_t serial, cudaStream_t stream) {
  Streams& s = streams();
  s.serial = serial;
  if (s.launches.size() < 4096)
    s.launches[static_cast<uint32_t>(emulator::global_tag::launch_number(serial))] = {stream_number(stream), serial};
}
void note_pending_copy(cudaStream_t stream, const void* host, size_t bytes, bool host_is_written, const Site& site) {
  const auto low = reinterpret_cast<uintptr_t>(host);
  if (streams().copies.size() < 4096)
    streams().copies.push_back({low, low + bytes, host_is_written, stream_number(stream), site});
}
void all_done() {
  streams().launches.clear();
  streams().copies.clear();
}
void stream_done(cudaStream_t stream) {
  Streams& s = streams();
  const uint32_t number = stream_number(stream);
  finish(number, s.serial);
  drop_copies(number);
  if (number != 0) return;
  // The default stream waits for what was put on the blocking ones before.
  for (uint32_t other = 2; other < s.next; ++other)
    if (!s.nonblocking[other]) finish(other, s.serial), drop_copies(other);
}
bool finished(uint64_t launch_number) { return !streams().launches.count(static_cast<uint32_t>(launch_number)); }
const PendingCopy* pending_copy_at(uintptr_t address, size_t bytes, bool host_writes) {
  for (const PendingCopy& c : streams().copies)
    if (address < c.high && address + bytes > c.low && (c.host_is_written || host_writes)) return &c;
  return nullptr;
}

namespace {

bool known(cudaStream_t stream) { return reinterpret_cast<uintptr_t>(stream) < 3 || streams().open.count(stream); }
cudaError_t unknown(const Call& call) {
  return call.misused("invalid-handle", cudaErrorInvalidResourceHandle,
                      std::string(call.name) + ": this stream does not exist; it was never created, or it has been destroyed");
}
cudaError_t unknown_event(const Call& call) {
  return call.misused("invalid-handle", cudaErrorInvalidResourceHandle,
                      std::string(call.name) + ": this event does not exist; it was never created, or it has been destroyed");
}

cudaError_t create(cudaStream_t* stream, bool blocking) {
  Streams& s = streams();
  *stream = new CUstream_st{s.next++, blocking};
  s.nonblocking.push_back(!blocking);
  s.open.insert(*stream);
  return cudaSuccess;
}

}  // namespace
}  // namespace lab
}  // namespace warploom

using namespace warploom::lab;

cudaError_t cudaStreamCreate(cudaStream_t* stream, Site site) {
  const Call call("cudaStreamCreate", site);
  return create(stream, true);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags, Site site) {
  const Call call("cudaStreamCreateWithFlags", site);
  return create(stream, !(flags & cudaStreamNonBlocking));
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int, Site site) {
  return cudaStreamCreateWithFlags(stream, flags, site);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream, Site site) {
  const Call call("cudaStreamDestroy", site);
  if (!streams().open.erase(stream)) return unknown(call);
  delete stream;
  return call.succeeds();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream, Site site) {
  const Call call("cudaStreamSynchronize", site);
  if (!known(stream)) return unknown(call);
  stream_done(stream);
  return call.succeeds();
}
cudaError_t cudaStreamQuery(cudaStream_t stream, Site site) {
  const Call call("cudaStreamQuery", site);
  if (!known(stream)) return unknown(call);
  stream_done(stream);
  return call.succeeds();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned, Site site) {
  const Call call("cudaStreamWaitEvent", site);
  if (!known(stream)) return unknown(call);
  if (!streams().events.count(event)) return unknown_event(call);
  return call.succeeds();
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data, unsigned, Site site) {
  const Call call("cudaStreamAddCallback", site);
  if (!known(stream)) return unknown(call);
  callback(stream, cudaSuccess, data);
  return call.succeeds();
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data, Site site) {
  const Call call("cudaLaunchHostFunc", site);
  if (!known(stream)) return unknown(call);
  function(data);
  return call.succeeds();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags, Site site) {
  const Call call("cudaEventCreate", site);
  *event = new CUevent_st;
  (*event)->timed = !(flags & cudaEventDisableTiming);
  streams().events.insert(*event);
  return call.succeeds();
}
cudaError_t cudaEventCreate(cudaEvent_t* event, Site site) { return cudaEventCreateWithFlags(event, 0, site); }
cudaError_t cudaEventDestroy(cudaEvent_t event, Site site) {
  const Call call("cudaEventDestroy", site);
  if (!streams().events.erase(event)) return unknown_event(call);
  delete event;
  return call.succeeds();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream, Site site) {
  const Call call("cudaEventRecord", site);
  if (!streams().events.count(event)) return unknown_event(call);
  if (!known(stream)) return unknown(call);
  event->recorded = true;
  event->when = std::chrono::steady_clock::now();
  event->serial = streams().serial;
  event->stream = stream_number(stream);
  return call.succeeds();
}
cudaError_t cudaEventSynchronize(cudaEvent_t event, Site site) {
  const Call call("cudaEventSynchronize", site);
  if (!streams().events.count(event)) return unknown_event(call);
  if (!event->recorded) return call.succeeds();
  finish(event->stream, event->serial);
  drop_copies(event->stream);
  if (event->stream == 0)
    for (uint32_t other = 2; other < streams().next; ++other)
      if (!streams().nonblocking[other]) finish(other, event->serial);
  return call.succeeds();
}
cudaError_t cudaEventQuery(cudaEvent_t event, Site site) { return cudaEventSynchronize(event, site); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to, Site site) {
  const Call call("cudaEventElapsedTime", site);
  if (!streams().events.count(from) || !streams().events.count(to)) return unknown_event(call);
  if (!from->recorded || !to->recorded)
    return call.misused("event-not-recorded", cudaErrorInvalidResourceHandle,
                        "cudaEventElapsedTime needs two events that cudaEventRecord has recorded; the " +
                            std::string(from->recorded ? "second" : "first") + " was not");
  if (!from->timed || !to->timed)
    return call.misused("event-not-recorded", cudaErrorInvalidResourceHandle,
                        "cudaEventElapsedTime of an event that was created with cudaEventDisableTiming");
  *milliseconds = std::chrono::duration<float, std::milli>(to->when - from->when).count();
  if (*milliseconds < 1e-4f) *milliseconds = 1e-4f;  // programs divide by it
  return call.succeeds();
}
