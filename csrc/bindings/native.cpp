#include "csrc/bindings/native.h"

#include <pthread.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <chrono>
#include <condition_variable>
#include <new>

#include "csrc/bindings/bindings.h"
#include "kernels/device.h"

namespace warploom {
namespace py = pybind11;
namespace {

constexpr std::chrono::seconds kExitPatience(10), kForkPatience(60);  // a call is a step or a batch: milliseconds, rarely seconds

struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;     // calls at work
  int returning = 0;  // calls that are done and want the interpreter's lock back
  int callbacks = 0;  // of calls that are not inside meanwhile
  bool forking = false, ending = false;
  pthread_t last{};        // the thread that ends the interpreter; it may go on
  bool abandoned = false;  // this process was forked in the middle of another thread's call
};
Gate& gate() {
  static auto* g = new Gate;  // never destroyed: threads may stand before it until the process is gone
  return *g;
}
thread_local int inside_here = 0, callbacks_here = 0;

[[noreturn]] void stand_still() {
  for (;;) pause();
}

bool must_stop(const Gate& g) { return g.ending && callbacks_here == 0 && !pthread_equal(g.last, pthread_self()); }

void before_fork() {
  Gate& g = gate();
  std::unique_lock<std::mutex> lock(g.mutex);
  g.forking = true;
  const bool quiet = g.changed.wait_for(lock, kForkPatience, [&] { return g.inside == inside_here; });
  g.abandoned = !quiet || g.callbacks > callbacks_here;
  lock.release();  // held across the fork
}
void after_fork_in_parent() {
  Gate& g = gate();
  g.forking = g.abandoned = false;
  g.mutex.unlock();
  g.changed.notify_all();
}
void after_fork_in_child() {
  Gate& g = gate();  // in place: others hold its address
  new (&g.mutex) std::mutex;
  new (&g.changed) std::condition_variable;
  g.inside = inside_here;
  g.returning = 0;
  g.callbacks = callbacks_here;
  g.forking = false;
}

// At exit, with the interpreter's lock: threads that still run Python end as Python sees fit, none of them inside native code.
void close_for_good() {
  PyThreadState* state = PyEval_SaveThread();
  Gate& g = gate();
  {
    std::unique_lock<std::mutex> lock(g.mutex);
    g.ending = true;
    g.last = pthread_self();
    g.changed.wait_for(lock, kExitPatience,
                       [&] { return g.inside == inside_here && g.returning == 0 && g.callbacks == callbacks_here; });
  }
  g.changed.notify_all();
  PyEval_RestoreThread(state);
}

}  // namespace

NativeCall::NativeCall() : state_(PyEval_SaveThread()) {
  Gate& g = gate();
  std::unique_lock<std::mutex> lock(g.mutex);
  g.changed.wait(lock, [&] { return !g.forking || must_stop(g); });
  if (must_stop(g)) {
    lock.unlock();
    stand_still();
  }
  g.inside++;
  inside_here++;
}

NativeCall::~NativeCall() {
  Gate& g = gate();
  bool stop = false;
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    g.inside--;
    inside_here--;
    stop = must_stop(g);
    if (!stop) g.returning++;
  }
  g.changed.notify_all();
  if (stop) stand_still();
  PyEval_RestoreThread(state_);
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    g.returning--;
  }
  g.changed.notify_all();
}

NativeCallback::NativeCallback() : inside_(inside_here) {
  Gate& g = gate();
  {
    const std::lock_guard<std::mutex> lock(g.mutex);
    g.inside -= inside_;
    inside_here = 0;
    g.callbacks++;
    callbacks_here++;
  }
  g.changed.notify_all();
  state_ = PyGILState_Ensure();
}

NativeCallback::~NativeCallback() {
  PyGILState_Release(state_);
  Gate& g = gate();
  {
    std::unique_lock<std::mutex> lock(g.mutex);
    g.changed.wait(lock, [&] { return !g.forking; });
    g.inside += inside_;
    inside_here = inside_;
    g.callbacks--;
    callbacks_here--;
  }
  g.changed.notify_all();
}

NativeLock::NativeLock(std::recursive_mutex& mutex) : mutex_(mutex) {
  if (mutex.try_lock()) return;
  if (gate().abandoned)
    throw DeviceError(
        "this process was forked while another thread was in the middle of a call of this model, whose state is lost here: make "
        "or "
        "load the model anew in the child, or start the child with the method 'spawn'");
  mutex.lock();
}

void bind_native(py::module_& m) {
  m.def("return_freed_memory", [] {
#ifdef __GLIBC__
    const NativeCall released;
    return malloc_trim(0) != 0;
#else
    return false;
#endif
  });
  static const int registered = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  (void)registered;
  py::module_::import("atexit").attr("register")(py::cpp_function(&close_for_good));
}

}  // namespace warploom
