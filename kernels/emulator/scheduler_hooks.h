// scheduler_hooks.h - where the scheduler tells the checks, or the counters, what happens. The fast build compiles all of them to
// nothing.
#pragma once

#include "engine.h"

namespace warploom {
namespace emulator {
namespace hooks {

// Text for errors. "thread (3, 0, 0): " and "; thread (0, 0, 0) at its block's barrier ..."; return the characters written.
int describe_thread(Worker& w, Fiber* fiber, char* text, size_t size);
int describe_waiting(Worker& w, char* text, size_t size);

#if defined(WARPLOOM_EMULATOR_CHECKED)
constexpr size_t kRedZone = 256;
void launch_begins(Worker& w);
void block_begins(Worker& w);
void shared_opened(Worker& w, size_t offset, size_t bytes);
void thread_begins(Worker& w, Fiber* self);
void barrier_reached(Worker& w, Fiber* self, Site site);
void barrier_without(Worker& w, Fiber* exited);  // a thread returned although others wait for it
void barrier_released(Worker& w);
void barrier_passed(Worker& w, Fiber* self);
void warp_completed(Worker& w, Warp& warp, const Rendezvous& r);
void warp_passed(Worker& w, Fiber* self);
void failed_at(Worker& w, Site site);
void copy_issued(void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller);
void copy_landed(void* shared, size_t bytes, const void* caller);
// mbarriers by their index in the block, and the bulk copies they count; one run of a copy at a time
void async_barrier_opened(Worker& w, int barrier, const void* word, const void* caller);
void async_barrier_arrived(Worker& w, Fiber* self, int barrier);
void async_barrier_reached_by_copy(Worker& w, Fiber* issuer, int barrier);
void async_barrier_completed(Worker& w, int barrier);
void async_barrier_passed(Worker& w, Fiber* self, int barrier);
void bulk_issued(Worker& w, int barrier, void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller);
void bulk_landed(Worker& w, void* shared, size_t bytes);
void matrix_read(const void* shared, size_t bytes, const void* caller);  // by wgmma
void async_proxy_fenced(Worker& w, Fiber* self);
#else
inline void async_barrier_opened(Worker&, int, const void*, const void*) {}
inline void async_barrier_arrived(Worker&, Fiber*, int) {}
inline void async_barrier_reached_by_copy(Worker&, Fiber*, int) {}
inline void async_barrier_completed(Worker&, int) {}
inline void async_barrier_passed(Worker&, Fiber*, int) {}
inline void bulk_landed(Worker&, void*, size_t) {}
inline void matrix_read(const void*, size_t, const void*) {}
inline void async_proxy_fenced(Worker&, Fiber*) {}
constexpr size_t kRedZone = 0;
inline void shared_opened(Worker&, size_t, size_t) {}
inline void barrier_without(Worker&, Fiber*) {}
inline void barrier_passed(Worker&, Fiber*) {}
inline void warp_passed(Worker&, Fiber*) {}
inline void failed_at(Worker&, Site) {}
inline void copy_landed(void*, size_t, const void*) {}
#endif

// The lab (kernels/lab): what a block has found, and which blocks run.
#if defined(WARPLOOM_LAB)
void block_ends(Worker& w);                          // not on a fiber
uint64_t nth_block(uint64_t n, uint64_t of_blocks);  // which one is run as the nth
bool block_affordable(uint64_t block);               // within what the user wants to wait for
#else
inline void block_ends(Worker&) {}
inline uint64_t nth_block(uint64_t n, uint64_t) { return n; }
#endif

#if defined(WARPLOOM_EMULATOR_COUNTING)
bool block_wanted(Worker& w, uint64_t block);  // else it is left out
void launch_begins(Worker& w);
void launch_ends(Worker& w);  // not on a fiber
void block_begins(Worker& w);
void thread_begins(Worker& w, Fiber* self);
void thread_ends(Worker& w, Fiber* self);
void barrier_reached(Worker& w, Fiber* self, Site site);
void barrier_released(Worker& w);
void warp_completed(Worker& w, Warp& warp, const Rendezvous& r);
void copy_issued(void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller);
void bulk_issued(Worker& w, int barrier, void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller);
#else
#if defined(WARPLOOM_LAB)
bool block_wanted(Worker& w, uint64_t block);
#else
inline bool block_wanted(Worker&, uint64_t) { return true; }
#endif
inline void launch_ends(Worker&) {}
inline void thread_ends(Worker&, Fiber*) {}
#endif

#if !defined(WARPLOOM_EMULATOR_INSTRUMENTED)
inline void launch_begins(Worker&) {}
inline void block_begins(Worker&) {}
inline void thread_begins(Worker&, Fiber*) {}
inline void barrier_reached(Worker&, Fiber*, Site) {}
inline void barrier_released(Worker&) {}
inline void warp_completed(Worker&, Warp&, const Rendezvous&) {}
inline void copy_issued(void*, const void*, size_t, size_t, const void*) {}
inline void bulk_issued(Worker&, int, void*, const void*, size_t, size_t, const void*) {}
#endif

}  // namespace hooks

// What workers, launches and errors need from the checks and from the counters.
#if defined(WARPLOOM_EMULATOR_CHECKED)
void prepare_checks(Worker& w);           // once per worker
void launch_opens(const Launch& launch);  // on the launching thread, before any block
std::string fault_location(Worker& w);    // " at file.cu:12 (function)"; not on a fiber
#else
#if defined(WARPLOOM_EMULATOR_COUNTING)
void prepare_checks(Worker& w);
void launch_opens(Launch& launch);
#else
inline void prepare_checks(Worker&) {}
inline void launch_opens(const Launch&) {}
#endif
inline std::string fault_location(Worker&) { return ""; }
#endif

}  // namespace emulator
}  // namespace warploom
