// native.h - work without the interpreter's lock, and what may not happen to it: the end of the interpreter, and fork().
//
// A thread that wants the lock back while the interpreter ends would be unwound by Python, through destructors that must not throw:
// the process aborts. And a fork() copies locks that a thread holds which the child does not have. So every piece of such work
// passes a gate. At exit the gate closes: what is inside is waited for, and threads that come out (or want in) stand still for good,
// as Python 3.14 has them do. Before a fork() the gate closes until all are out: the child finds every session between two calls.
#pragma once

#include <pybind11/pybind11.h>

#include <mutex>

namespace warploom {

class NativeCall {
 public:
  NativeCall();  // lets go of the lock; waits while a fork() is on its way
  ~NativeCall();
  NativeCall(const NativeCall&) = delete;
  NativeCall& operator=(const NativeCall&) = delete;

 private:
  PyThreadState* state_;
};

// Python called from within a NativeCall. It holds the lock of the interpreter, as fork() does while it waits: so it is not waited for,
// but the child is told that what the call works on is lost. At exit it is waited for, with the calls within.
class NativeCallback {
 public:
  NativeCallback();
  ~NativeCallback();
  NativeCallback(const NativeCallback&) = delete;
  NativeCallback& operator=(const NativeCallback&) = delete;

 private:
  int inside_;
  PyGILState_STATE state_;
};

// A lock that only NativeCalls hold, a thread also several times over (a call in a callback of another). Throws DeviceError in a child that was forked while a call of another thread did not end in time.
class NativeLock {
 public:
  explicit NativeLock(std::recursive_mutex& mutex);
  ~NativeLock() { mutex_.unlock(); }
  NativeLock(const NativeLock&) = delete;
  NativeLock& operator=(const NativeLock&) = delete;

 private:
  std::recursive_mutex& mutex_;
};

}  // namespace warploom
