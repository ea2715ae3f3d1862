# The host kernel set, once per instruction set; the engine loads the best one this CPU runs.
# What runs before the CPU has been checked (the exported table, the device, the threads) is compiled for the baseline in every build.
file(GLOB cpu_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/cpu/*.cpp ${PROJECT_SOURCE_DIR}/kernels/ops/*/cpu.cpp)
set(cpu_early_sources ${PROJECT_SOURCE_DIR}/csrc/cpu/library.cpp ${PROJECT_SOURCE_DIR}/csrc/cpu/host_device.cpp
    ${PROJECT_SOURCE_DIR}/csrc/cpu/threads.cpp)
list(REMOVE_ITEM cpu_sources ${cpu_early_sources})

function(warploom_cpu isa)
  add_library(warploom_cpu_${isa}_early OBJECT ${cpu_early_sources})
  target_compile_definitions(warploom_cpu_${isa}_early PRIVATE WARPLOOM_CPU_ISA="${isa}")
  target_link_libraries(warploom_cpu_${isa}_early PRIVATE warploom_options)
  add_library(warploom_cpu_${isa} MODULE ${cpu_sources} $<TARGET_OBJECTS:warploom_cpu_${isa}_early>)
  target_compile_options(warploom_cpu_${isa} PRIVATE ${ARGN})
  target_link_libraries(warploom_cpu_${isa} PRIVATE warploom_options Threads::Threads)
  set_target_properties(warploom_cpu_${isa} PROPERTIES OUTPUT_NAME cpu_${isa})
  warploom_place(warploom_cpu_${isa} _lib)
endfunction()

warploom_cpu(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  warploom_cpu(avx2 -mavx2 -mfma)
  warploom_cpu(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512)
endif()
