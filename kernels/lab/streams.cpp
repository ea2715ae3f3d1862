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
// Of each stream, by number: which of its work is over when something else is, as the number of its last piece.
typedef std::vector<uint64_t> Done;
struct CUevent_st {
  bool recorded = false, timed = true;
  std::chrono::steady_clock::time_point when;
  Done done;
};

namespace warploom {
namespace lab {
namespace {

struct Work {
  uint32_t stream;
  uint64_t piece;
};
struct Streams {
  std::set<cudaStream_t> open;
  std::set<cudaEvent_t> events;
  std::vector<bool> nonblocking = {false, false, false};  // by stream number
  std::vector<Done> done = std::vector<Done>(3);          // by stream number: when all is over that was put on it
  uint64_t pieces = 0;
  std::map<uint32_t, Work> launches;  // that the host has not waited for, by launch number
  std::vector<PendingCopy> copies;
};
Streams& streams() {
  static Streams* s = new Streams;
  return *s;
}

void join(Done& into, const Done& other) {
  if (into.size() < other.size()) into.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}

// What starts on a stream now starts behind this. The default stream waits for the blocking ones, and they for it.
Done& tail(uint32_t stream) {
  Streams& s = streams();
  if (stream == 0) {
    for (uint32_t other = 2; other < s.done.size(); ++other)
      if (!s.nonblocking[other]) join(s.done[0], s.done[other]);
  } else if (!s.nonblocking[stream]) {
    join(s.done[stream], s.done[0]);
  }
  return s.done[stream];
}

Work enqueue(cudaStream_t stream) {
  const uint32_t number = stream_number(stream);
  Done& done = tail(number);
  if (done.size() <= number) done.resize(number + 1);
  return {number, done[number] = ++streams().pieces};
}

void finish(const Done& done) {
  Streams& s = streams();
  auto over = [&](uint32_t stream, uint64_t piece) { return stream < done.size() && piece <= done[stream]; };
  for (auto it = s.launches.begin(); it != s.launches.end();)
    it = over(it->second.stream, it->second.piece) ? s.launches.erase(it) : std::next(it);
  s.copies.erase(std::remove_if(s.copies.begin(), s.copies.end(), [&](const PendingCopy& c) { return over(c.stream, c.piece); }),
                 s.copies.end());
}

}  // namespace

uint32_t stream_number(cudaStream_t stream) {
  const auto value = reinterpret_cast<uintptr_t>(stream);
  return value < 3 ? (value == 1 ? 0 : static_cast<uint32_t>(value)) : stream->number;
}
void note_launch(uint64_t serial, cudaStream_t stream) {
  const Work work = enqueue(stream);
  if (streams().launches.size() < 4096)
    streams().launches[static_cast<uint32_t>(emulator::global_tag::launch_number(serial))] = work;
}
void note_pending_copy(cudaStream_t stream, const void* host, size_t bytes, bool host_is_written, const Site& site) {
  const auto low = reinterpret_cast<uintptr_t>(host);
  const Work work = enqueue(stream);
  if (streams().copies.size() < 4096)
    streams().copies.push_back({low, low + bytes, host_is_written, work.stream, work.piece, site});
}
void all_done() {
  streams().launches.clear();
  streams().copies.clear();
}
void stream_done(cudaStream_t stream) { finish(tail(stream_number(stream))); }
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
  *stream = new CUstream_st{static_cast<uint32_t>(s.done.size()), blocking};
  s.done.emplace_back();
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
  if (event->recorded) join(tail(stream_number(stream)), event->done);
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
  event->done = tail(stream_number(stream));
  return call.succeeds();
}
cudaError_t cudaEventSynchronize(cudaEvent_t event, Site site) {
  const Call call("cudaEventSynchronize", site);
  if (!streams().events.count(event)) return unknown_event(call);
  if (!event->recorded) return call.succeeds();
  finish(event->done);
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
