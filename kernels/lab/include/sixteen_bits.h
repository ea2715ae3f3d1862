// sixteen_bits.h - what cuda_fp16.h and cuda_bf16.h have in common. Included by both, with WL_H (the type), WL_H2 (the pair), WL_RAW (its bits),
// WL_TO_BITS and WL_FROM_BITS set. Arithmetic is done in float32 and rounded once, as the hardware's is.

struct WL_H {
  unsigned short wl_bits;
  WL_H() = default;
  WL_H(float v) : wl_bits(static_cast<unsigned short>(WL_TO_BITS(v))) {}
  WL_H(double v) : WL_H(static_cast<float>(v)) {}
  WL_H(int v) : WL_H(static_cast<float>(v)) {}
  WL_H(unsigned v) : WL_H(static_cast<float>(v)) {}
  WL_H(long v) : WL_H(static_cast<float>(v)) {}
  WL_H(unsigned long v) : WL_H(static_cast<float>(v)) {}
  WL_H(long long v) : WL_H(static_cast<float>(v)) {}
  WL_H(WL_RAW r) : wl_bits(r.x) {}
  operator float() const { return WL_FROM_BITS(wl_bits); }
  operator WL_RAW() const { return WL_RAW{wl_bits}; }
  WL_H& operator+=(WL_H o) { return *this = WL_H(float(*this) + float(o)); }
  WL_H& operator-=(WL_H o) { return *this = WL_H(float(*this) - float(o)); }
  WL_H& operator*=(WL_H o) { return *this = WL_H(float(*this) * float(o)); }
  WL_H& operator/=(WL_H o) { return *this = WL_H(float(*this) / float(o)); }
};
struct alignas(4) WL_H2 {
  WL_H x, y;
  WL_H2() = default;
  WL_H2(WL_H a, WL_H b) : x(a), y(b) {}
  typedef unsigned wl_whole __attribute__((may_alias));
  WL_H2(const WL_H2& o) { *reinterpret_cast<wl_whole*>(this) = *reinterpret_cast<const wl_whole*>(&o); }
  WL_H2& operator=(const WL_H2& o) {
    *reinterpret_cast<wl_whole*>(this) = *reinterpret_cast<const wl_whole*>(&o);
    return *this;
  }
};

#define WL_OPERATOR(op)                                                                                    \
  inline WL_H operator op(WL_H a, WL_H b) { return WL_H(static_cast<float>(a) op static_cast<float>(b)); } \
  inline WL_H2 operator op(WL_H2 a, WL_H2 b) { return WL_H2(a.x op b.x, a.y op b.y); }
WL_OPERATOR(+)
WL_OPERATOR(-)
WL_OPERATOR(*)
WL_OPERATOR(/)
#undef WL_OPERATOR
inline WL_H operator-(WL_H a) { return WL_H(-static_cast<float>(a)); }
inline WL_H2 operator-(WL_H2 a) { return WL_H2(-a.x, -a.y); }
inline WL_H2& operator+=(WL_H2& a, WL_H2 b) { return a = a + b; }
inline WL_H2& operator-=(WL_H2& a, WL_H2 b) { return a = a - b; }
inline WL_H2& operator*=(WL_H2& a, WL_H2 b) { return a = a * b; }
#define WL_COMPARE(op) \
  inline bool operator op(WL_H a, WL_H b) { return static_cast<float>(a) op static_cast<float>(b); }
WL_COMPARE(==)
WL_COMPARE(!=)
WL_COMPARE(<)
WL_COMPARE(<=)
WL_COMPARE(>)
WL_COMPARE(>=)
#undef WL_COMPARE

#define WL_BINARY(name, expression)              \
  inline WL_H name(WL_H p, WL_H q) {             \
    const float a = p, b = q;                    \
    return WL_H(static_cast<float>(expression)); \
  }                                              \
  inline WL_H2 name##2(WL_H2 p, WL_H2 q) { return WL_H2(name(p.x, q.x), name(p.y, q.y)); }
WL_BINARY(__hadd, a + b)
WL_BINARY(__hsub, a - b)
WL_BINARY(__hmul, a* b)
WL_BINARY(__hmax, ::warploom::fmaxf(a, b))
WL_BINARY(__hmin, ::warploom::fminf(a, b))
WL_BINARY(__hadd_sat, __saturatef(a + b))
WL_BINARY(__hmul_sat, __saturatef(a* b))
#undef WL_BINARY
inline WL_H __hdiv(WL_H a, WL_H b) { return a / b; }
inline WL_H2 __h2div(WL_H2 a, WL_H2 b) { return a / b; }
inline WL_H __hfma(WL_H a, WL_H b, WL_H c) {
  return WL_H(__builtin_fmaf(static_cast<float>(a), static_cast<float>(b), static_cast<float>(c)));
}
inline WL_H2 __hfma2(WL_H2 a, WL_H2 b, WL_H2 c) { return WL_H2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)); }
inline WL_H __hneg(WL_H a) { return -a; }
inline WL_H2 __hneg2(WL_H2 a) { return -a; }
inline WL_H __habs(WL_H a) { return WL_H(std::fabs(static_cast<float>(a))); }
inline WL_H2 __habs2(WL_H2 a) { return WL_H2(__habs(a.x), __habs(a.y)); }
#define WL_COMPARE(name, op) \
  inline bool name(WL_H a, WL_H b) { return static_cast<float>(a) op static_cast<float>(b); }
WL_COMPARE(__heq, ==)
WL_COMPARE(__hne, !=)
WL_COMPARE(__hlt, <)
WL_COMPARE(__hle, <=)
WL_COMPARE(__hgt, >)
WL_COMPARE(__hge, >=)
#undef WL_COMPARE
inline bool __hisnan(WL_H a) { return std::isnan(static_cast<float>(a)); }
inline int __hisinf(WL_H a) { return std::isinf(static_cast<float>(a)); }
#define WL_UNARY(name, expression)               \
  inline WL_H h##name(WL_H v) {                  \
    const float a = v;                           \
    return WL_H(static_cast<float>(expression)); \
  }                                              \
  inline WL_H2 h2##name(WL_H2 v) { return WL_H2(h##name(v.x), h##name(v.y)); }
WL_UNARY(exp, std::exp(a))
WL_UNARY(exp2, std::exp2(a))
WL_UNARY(exp10, std::pow(10.0f, a))
WL_UNARY(log, std::log(a))
WL_UNARY(log2, std::log2(a))
WL_UNARY(log10, std::log10(a))
WL_UNARY(sqrt, std::sqrt(a))
WL_UNARY(rsqrt, 1.0f / std::sqrt(a))
WL_UNARY(rcp, 1.0f / a)
WL_UNARY(sin, std::sin(a))
WL_UNARY(cos, std::cos(a))
WL_UNARY(tanh, std::tanh(a))
WL_UNARY(ceil, std::ceil(a))
WL_UNARY(floor, std::floor(a))
WL_UNARY(rint, std::nearbyint(a))
WL_UNARY(trunc, std::trunc(a))
#undef WL_UNARY
inline float __low2float(WL_H2 v) { return v.x; }
inline float __high2float(WL_H2 v) { return v.y; }

// One word, exchanged until nobody came between.
inline WL_H atomicAdd(WL_H* address, WL_H operand) {
  auto* bits = reinterpret_cast<unsigned short*>(address);
  WL_H old = 0.0f, next;  // a guess: reading the place would race with other updates
  for (;;) {
    next = WL_H(static_cast<float>(old) + static_cast<float>(operand));
    const unsigned short seen = atomicCAS(bits, old.wl_bits, next.wl_bits);
    if (seen == old.wl_bits) return old;
    old.wl_bits = seen;
  }
}
inline WL_H2 atomicAdd(WL_H2* address, WL_H2 operand) {
  const WL_H low = atomicAdd(&address->x, operand.x), high = atomicAdd(&address->y, operand.y);
  return WL_H2(low, high);
}
