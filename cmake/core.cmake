# The Python extension: graph, planner, training session and bindings. It holds no kernels; it loads device libraries.
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
set(PYBIND11_FINDPYTHON ON)
if(NOT pybind11_DIR)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_package(pybind11 CONFIG REQUIRED)

file(GLOB core_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/core/*.cpp ${PROJECT_SOURCE_DIR}/csrc/graph/*.cpp
     ${PROJECT_SOURCE_DIR}/csrc/train/*.cpp ${PROJECT_SOURCE_DIR}/csrc/bindings/*.cpp ${PROJECT_SOURCE_DIR}/kernels/ops/*/graph.cpp
     ${PROJECT_SOURCE_DIR}/kernels/ops/*/loss.cpp ${PROJECT_SOURCE_DIR}/kernels/ops/*/optimizer.cpp)
pybind11_add_module(_core MODULE NO_EXTRAS ${core_sources})
target_link_libraries(_core PRIVATE warploom_options Threads::Threads ${CMAKE_DL_LIBS})
warploom_place(_core "")
