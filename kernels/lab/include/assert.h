// assert.h - an assertion of a kernel is a finding; one of the host ends the program as ever. No include guard: assert.h has none.
#include_next <assert.h>
#undef assert
#if defined(NDEBUG)
#define assert(expression) (static_cast<void>(0))
#else
#define assert(expression) \
  ((expression) ? static_cast<void>(0) : ::warploom::lab::failed_assertion(#expression, __FILE__, __LINE__, __func__))
#endif
