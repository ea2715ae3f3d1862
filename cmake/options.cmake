# Choices that depend on others, flags every target shares, and where a built library goes.
function(warploom_choice name default)
  if(WARPLOOM_${name} STREQUAL "")
    set(WARPLOOM_${name} ${default} PARENT_SCOPE)
  elseif(NOT WARPLOOM_${name} IN_LIST ARGN)
    list(JOIN ARGN ", " expected)
    message(FATAL_ERROR "WARPLOOM_${name}=${WARPLOOM_${name}} is unknown; expected one of ${expected}")
  endif()
endfunction()
warploom_choice(CUDA AUTO AUTO ON OFF)
if(WARPLOOM_RELEASE)
  warploom_choice(CPU all native all)
  warploom_choice(EMULATORS all none fast all)
elseif(WARPLOOM_INPLACE) # a checkout recompiles single files; what is compiled on demand is compiled whole
  warploom_choice(CPU native native all)
  warploom_choice(EMULATORS all none fast all)
else()
  warploom_choice(CPU native native all)
  warploom_choice(EMULATORS none none fast all) # no part of the way to the first epoch
endif()

# Small sources of a library together in one compilation: a build that is made once takes half the time. In a checkout, where single
# files are compiled again, each is by itself. Compiled together, no two sources of a library may have a helper of one name.
if(WARPLOOM_INPLACE)
  set(unity OFF)
else()
  set(unity ON)
endif()
option(WARPLOOM_UNITY "Compile small sources together" ${unity})

set(WARPLOOM_LAUNCHER "${CMAKE_CXX_COMPILER_LAUNCHER}")
if(WARPLOOM_CCACHE AND NOT WARPLOOM_LAUNCHER)
  find_program(WARPLOOM_CCACHE_PROGRAM NAMES ccache sccache)
  if(WARPLOOM_CCACHE_PROGRAM)
    set(WARPLOOM_LAUNCHER ${WARPLOOM_CCACHE_PROGRAM})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${WARPLOOM_CCACHE_PROGRAM})
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${WARPLOOM_CCACHE_PROGRAM})
  endif()
endif()

add_library(warploom_options INTERFACE)
target_include_directories(warploom_options INTERFACE ${PROJECT_SOURCE_DIR})
# No path of this machine in the code: messages name sources from the root on, and two machines build the same bytes.
target_compile_options(warploom_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -fno-gnu-unique
                       -ffile-prefix-map=${PROJECT_SOURCE_DIR}=/warploom>)
if(WARPLOOM_WERROR)
  target_compile_options(warploom_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()

function(warploom_place target folder)
  set_target_properties(${target} PROPERTIES PREFIX "")
  if(WARPLOOM_INPLACE)
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_SOURCE_DIR}/python/warploom/${folder})
  endif()
  install(TARGETS ${target} LIBRARY DESTINATION warploom/${folder})
endfunction()
