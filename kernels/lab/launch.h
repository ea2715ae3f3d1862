// launch.h - what the rewriter makes of `kernel<<<grid, block, shared, stream>>>(arguments)`:
//   wl_configured(grid, block, shared, stream).wl_kernel(WL_NAME(kernel), [&](auto&&... a) { kernel(a...); })(arguments)
// The arguments are evaluated once and copied, each thread gets a copy. The lambda names the kernel inside a call, so that overloads are
// chosen and template arguments deduced as CUDA does. It is not instrumented: what it captures (a pointer to a kernel in a local
// variable) is the host's.
#pragma once

namespace warploom {
namespace lab {

struct Configuration {
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
  emulator::Site site;
  bool cooperative;
  unsigned most_threads;  // __launch_bounds__; 0: none
};
struct LaunchOf {
  const char* name;
  void (*kernel)();
  void (*invoke)(void (*kernel)(), const void* parameters);
  const void* parameters;
  size_t bytes;
};
cudaError_t launch(const Configuration& configuration, const LaunchOf& what);  // launches.cpp

template <class F, class... A>
struct Packed {
  F* call;
  std::tuple<A...> arguments;
};
template <class F, class... A>
__attribute__((no_sanitize("thread"))) void invoke_packed(void (*)(), const void* parameters) {
  const auto& packed = *static_cast<const Packed<F, A...>*>(parameters);
  std::apply(*packed.call, packed.arguments);
}

template <class F>
struct Launcher {
  const Configuration& configuration;
  const char* name;
  F* call;
  template <class... A>
  void operator()(A&&... arguments) const {
    using Everything = Packed<F, std::decay_t<A>...>;
    static_assert(sizeof(Everything) <= 4096 + sizeof(void*), "kernel parameters are limited to 4096 bytes");
    const Everything packed{call, std::tuple<std::decay_t<A>...>(std::forward<A>(arguments)...)};
    launch(configuration, {name, nullptr, &invoke_packed<F, std::decay_t<A>...>, &packed, sizeof(packed)});
  }
};

struct Configured : Configuration {
  template <class F>
  Launcher<F> wl_kernel(const char* name, F&& call) const {  // `call` lives as long as the full expression
    return {*this, name, &call};
  }
  const Configured& wl_bounded(unsigned most) {
    most_threads = most;
    return *this;
  }
};

// cudaLaunchKernel and its cooperative sibling get `void*`: kernels that are not templates are registered by the rewriter.
struct Registered {
  const void* function;
  void (*invoke)(void (*kernel)(), const void* parameters);  // parameters: a tuple
  void (*pack)(void* to, void** arguments);
  size_t bytes;
  const char* name;
};
void register_kernel(const Registered& kernel);
template <class... P, size_t... I>
__attribute__((no_sanitize("thread"))) void pack_arguments(std::tuple<P...>* to, void** arguments, std::index_sequence<I...>) {
  new (to) std::tuple<P...>(*static_cast<P*>(arguments[I])...);
  (void)arguments;
}
template <class... P>
Registered registration(void (*kernel)(P...), const char* name) {
  using Tuple = std::tuple<std::decay_t<P>...>;
  Registered r;
  r.function = reinterpret_cast<const void*>(kernel);
  r.invoke = [](void (*k)(), const void* parameters) {
    std::apply(reinterpret_cast<void (*)(P...)>(k), *static_cast<const Tuple*>(parameters));
  };
  r.pack = [](void* to, void** arguments) {
    pack_arguments(static_cast<Tuple*>(to), arguments, std::index_sequence_for<P...>());
  };
  r.bytes = sizeof(Tuple);
  r.name = name;
  return r;
}
struct Registration {
  template <class... P>
  Registration(void (*kernel)(P...), const char* name) {
    register_kernel(registration(kernel, name));
  }
};
cudaError_t launch_registered(const void* function, Configuration configuration, void** arguments);

}  // namespace lab
}  // namespace warploom

// Names that no parameter of a program's macro has.
inline ::warploom::lab::Configured wl_configured(dim3 grid, dim3 block, size_t shared_bytes = 0, cudaStream_t stream = nullptr,
                                                 WL_SITE) {
  return {{grid, block, shared_bytes, stream, site, false, 0}};
}

#define WL_NAME(...) WL_NAME_2(__VA_ARGS__)
#define WL_NAME_2(...) #__VA_ARGS__

template <class... P>
cudaError_t cudaLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, void** arguments, size_t shared_bytes = 0,
                             cudaStream_t stream = nullptr, WL_SITE) {
  ::warploom::lab::register_kernel(::warploom::lab::registration(kernel, "a kernel"));
  return ::warploom::lab::launch_registered(reinterpret_cast<const void*>(kernel),
                                            {grid, block, shared_bytes, stream, site, false, 0}, arguments);
}
inline cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes = 0,
                                    cudaStream_t stream = nullptr, WL_SITE) {
  return ::warploom::lab::launch_registered(kernel, {grid, block, shared_bytes, stream, site, false, 0}, arguments);
}
template <class... P>
cudaError_t cudaLaunchCooperativeKernel(void (*kernel)(P...), dim3 grid, dim3 block, void** arguments, size_t shared_bytes = 0,
                                        cudaStream_t stream = nullptr, WL_SITE) {
  ::warploom::lab::register_kernel(::warploom::lab::registration(kernel, "a kernel"));
  return ::warploom::lab::launch_registered(reinterpret_cast<const void*>(kernel),
                                            {grid, block, shared_bytes, stream, site, true, 0}, arguments);
}
inline cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                                               size_t shared_bytes = 0, cudaStream_t stream = nullptr, WL_SITE) {
  return ::warploom::lab::launch_registered(kernel, {grid, block, shared_bytes, stream, site, true, 0}, arguments);
}
