# The host kernel set, once per instruction set; the engine loads the best one this CPU runs.
file(GLOB cpu_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/cpu/*.cpp)

function(warploom_cpu isa)
  add_library(warploom_cpu_${isa} MODULE ${cpu_sources})
  target_compile_options(warploom_cpu_${isa} PRIVATE ${ARGN})
  target_compile_definitions(warploom_cpu_${isa} PRIVATE WARPLOOM_CPU_ISA="${isa}")
  target_link_libraries(warploom_cpu_${isa} PRIVATE warploom_options Threads::Threads)
  set_target_properties(warploom_cpu_${isa} PROPERTIES OUTPUT_NAME cpu_${isa})
  warploom_place(warploom_cpu_${isa} _lib)
endfunction()

if(cpu_sources)
  warploom_cpu(baseline)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    warploom_cpu(avx2 -mavx2 -mfma)
    warploom_cpu(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512)
  endif()
endif()
