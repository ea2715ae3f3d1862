// meetings.cpp - the part of Session about shards that are under way side by side: synchronised batch norms.
#include "csrc/train/session.h"

namespace warploom {

std::string Session::piece_name(const std::string& purpose, size_t from, size_t to) {
  return purpose + ", " + std::to_string(from) + " to " + std::to_string(to);
}

void Session::open_place(int number) {
  if (places_.size() < static_cast<size_t>(number) + 2) places_.resize(static_cast<size_t>(number) + 2);
  Place& place = place_of(number);
  if (number == 0 || place.gradients) return;
  place.gradients = DeviceMemory(target_.device, std::max<int64_t>(parameters_.trainable_bytes(), 4), "a shard's gradients");
  target_.device->fill(place.gradients.data(), 0, place.gradients.bytes());  // gaps, and what no step writes
}

std::vector<Session::MeetingSize> Session::meetings(PlanRequest request) {
  request.place = 0;
  const Plan& p = plan(request);
  std::vector<MeetingSize> sizes;
  for (const Meeting& m : p.meetings) sizes.push_back({p.buffers[static_cast<size_t>(m.numbers)].bytes / 8, m.backward});
  return sizes;
}

Session::UnderWay& Session::under_way(int place) {
  const auto found = under_way_.find(place);
  if (found == under_way_.end()) throw GraphError("no shard is under way in place " + std::to_string(place));
  return found->second;
}

const Buffer& Session::waiting(int place, int64_t count) {
  const UnderWay& shard = under_way(place);
  const Plan& p = plan(shard.request);
  if (shard.meeting >= p.meetings.size()) throw GraphError("the shard in place " + std::to_string(place) + " has met all others");
  const Buffer& b = p.buffers[static_cast<size_t>(p.meetings[shard.meeting].numbers)];
  if (count * 8 != b.bytes)
    throw GraphError("a meeting has " + std::to_string(b.bytes / 8) + " numbers, not " + std::to_string(count));
  return b;
}

void Session::read_meeting(int place, double* numbers, int64_t count) {
  const Buffer& b = waiting(place, count);
  target_.device->copy_out(numbers, place_of(place).arena.data() + b.offset, b.bytes);
}

void Session::write_meeting(int place, const double* numbers, int64_t count) {
  const Buffer& b = waiting(place, count);
  target_.device->copy_in(place_of(place).arena.data() + b.offset, numbers, b.bytes);
}

void Session::go_on(int place) {
  UnderWay& shard = under_way(place);
  const Plan& p = plan(shard.request);
  if (shard.meeting >= p.meetings.size()) throw GraphError("the shard in place " + std::to_string(place) + " has met all others");
  const size_t next = shard.meeting + 1, to = next < p.meetings.size() ? p.meetings[next].steps : p.steps.size();
  const auto work = [&] { run(p, shard.from, to); };
  replay_or_run(shard.request, piece_name(shard.purpose, shard.from, to), nullptr, work);
  shard.meeting = next, shard.from = to;
}

void Session::take_gradients(int place) {
  const UnderWay& shard = under_way(place);
  if (shard.meeting < plan(shard.request).meetings.size())
    throw GraphError("the shard in place " + std::to_string(place) + " is to meet others yet");
  if (place > 0) target_.device->copy(parameters_.gradients(), place_of(place).gradients.data(), parameters_.trainable_bytes());
  under_way_.erase(place);
}

}  // namespace warploom
