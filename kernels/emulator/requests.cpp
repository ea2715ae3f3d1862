// requests.cpp - one access of a warp, as the memory system of a GPU sees it.
//
// Device memory comes in sectors of 32 bytes. A request costs the sectors that its lanes touch; the least possible is what their
// different bytes fill. Shared memory has 32 banks of 4 bytes: a wavefront reads or writes one word of each bank, a word for any
// number of lanes. Accesses of 8 bytes go in two phases of 16 lanes, of 16 bytes in four of 8 (so does ldmatrix, whose phases are its
// matrices); each phase with a lane in it costs a wavefront at least, and more where its lanes want several words of a bank. A run of a
// bulk copy costs a wavefront per 128 bytes.
// Atomics on a shared word go one after another.
#if defined(WARPLOOM_EMULATOR_COUNTING)
#include <cstdlib>

#include "counting.h"

namespace warploom {
namespace emulator {
namespace {

struct Part {  // what each lane of `mask` touches in one request: `bytes` at address[lane]
  unsigned mask;
  uint32_t bytes;
  uint64_t address[32];
};

struct Bytes {  // touched by a request
  uint64_t sector[64];
  uint32_t used[64];  // bit per byte
  int count = 0;
  void add(uint64_t address, uint32_t bytes) {
    while (bytes) {
      const uint64_t number = address >> 5;
      const uint32_t at = static_cast<uint32_t>(address & 31), n = bytes < 32 - at ? bytes : 32 - at;
      const uint32_t bits = static_cast<uint32_t>(((uint64_t(1) << n) - 1) << at);
      int k = count - 1;
      while (k >= 0 && sector[k] != number) --k;
      if (k < 0) {
        k = count++;
        sector[k] = number;
        used[k] = 0;
      }
      used[k] |= bits;
      address += n;
      bytes -= n;
    }
  }
  uint64_t unique() const {
    uint64_t sum = 0;
    for (int k = 0; k < count; ++k) sum += static_cast<uint64_t>(__builtin_popcount(used[k]));
    return sum;
  }
};

void count_global(SiteCounts& s, const Part& p) {
  Bytes touched;
  for (unsigned rest = p.mask; rest; rest &= rest - 1) touched.add(p.address[__builtin_ctz(rest)], p.bytes);
  const uint64_t unique = touched.unique();
  s.unique_bytes += unique;
  s.sectors += static_cast<uint64_t>(touched.count);
  s.ideal_sectors += (unique + 31) / 32;
}

void count_shared(SiteCounts& s, const Part& p, bool atomic) {
  const unsigned lanes = p.bytes == 16 ? 8 : p.bytes == 8 ? 16 : 32;  // of a phase
  for (unsigned first = 0; first < 32; first += lanes) {
    const unsigned phase = p.mask & (lanes == 32 ? ~0u : ((1u << lanes) - 1u) << first);
    if (!phase) continue;
    uint64_t word[32][32];
    uint8_t words[32] = {};
    uint8_t most = 1;
    for (unsigned rest = phase; rest; rest &= rest - 1) {
      const uint64_t address = p.address[__builtin_ctz(rest)];
      for (uint64_t w = address >> 2; w <= (address + p.bytes - 1) >> 2; ++w) {
        const unsigned bank = static_cast<unsigned>(w & 31);
        int k = atomic ? -1 : words[bank] - 1;
        while (k >= 0 && word[bank][k] != w) --k;
        if (k >= 0 || words[bank] == 32) continue;
        word[bank][words[bank]++] = w;
        if (words[bank] > most) most = words[bank];
      }
    }
    s.wavefronts += most;
    ++s.ideal_wavefronts;
  }
}

void count_part(CountState& c, uint32_t code, const Part& p, Action action, bool shared) {
  SiteCounts& s = c.sites(code | static_cast<uint64_t>(p.bytes) << 32 | static_cast<uint64_t>(action) << 41 |
                          static_cast<uint64_t>(shared) << 44 | uint64_t(1) << 45);
  const uint64_t lanes = static_cast<uint64_t>(__builtin_popcount(p.mask));
  ++s.requests;
#if defined(WARPLOOM_LAB)
  if ((s.requests & (s.requests - 1)) == 0) keep_request(s.key, p.mask, p.bytes, p.address);
#endif
  s.lanes += lanes;
  s.bytes += lanes * p.bytes;
  if (shared && p.bytes > 16) {
    s.wavefronts += (p.bytes + 127) / 128, s.ideal_wavefronts += (p.bytes + 127) / 128;
  } else if (shared) {
    count_shared(s, p, action == Action::atomic);
  } else {
    count_global(s, p);
  }
}

// Accesses longer than a register's 16 bytes, and odd ones, are several instructions: as wide as all their addresses allow.
void count_parts(CountState& c, uint32_t code, const Part& whole, Action action, bool shared) {
  if (whole.bytes <= 16 && (whole.bytes & (whole.bytes - 1)) == 0) return count_part(c, code, whole, action, shared);
  uint64_t all = whole.bytes;
  for (unsigned rest = whole.mask; rest; rest &= rest - 1) all |= whole.address[__builtin_ctz(rest)];
  const uint64_t lowest = all & -all;
  const uint32_t width = lowest < 16 ? static_cast<uint32_t>(lowest) : 16;
  Part part = whole;
  part.bytes = width;
  for (uint32_t done = 0; done < whole.bytes; done += width) {
    count_part(c, code, part, action, shared);
    for (unsigned rest = part.mask; rest; rest &= rest - 1) part.address[__builtin_ctz(rest)] += width;
  }
}

Part part_of(unsigned mask, const uint64_t* const (&accesses)[32], int which) {
  Part p;
  p.mask = 0;
  p.bytes = 0;
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const unsigned l = static_cast<unsigned>(__builtin_ctz(rest));
    const uint64_t a = accesses[l][which];
    const uint32_t bytes = Access::bytes(a);
    if (!bytes) continue;  // a cp.async that only writes zeros
    p.mask |= 1u << l;
    p.bytes = bytes;
    p.address[l] = Access::address(a);
  }
  return p;
}

}  // namespace

void count_access(CountState& c, uint32_t code, unsigned mask, const uint64_t* const (&accesses)[32]) {
  const uint64_t first = *accesses[__builtin_ctz(mask)];
  const Action action = Access::action(first);
  if (action != Action::copy) return count_parts(c, code, part_of(mask, accesses, 0), action, Access::shared(first));
  const Part source = part_of(mask, accesses, 0), target = part_of(mask, accesses, 1);
  // A run of a bulk copy is one request: no register limits it.
  auto* const count = target.bytes > 16 ? count_part : count_parts;
  if (source.mask) count(c, code, source, action, false);
  if (target.mask) count(c, code, target, action, true);
}

}  // namespace emulator
}  // namespace warploom
#endif
