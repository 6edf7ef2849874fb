# Given to CMake as CMAKE_PROJECT_INCLUDE when an interface package is built against the ROS 2 wheels.
#
# The wheels export an include folder of the machine that built them. CMake refuses a target with an
# include folder that does not exist, so it is cleared on every imported Python-generator target once the
# package's own CMakeLists.txt has run. On a ROS 2 install this file is not used.

function(clear_wheel_includes)
  get_directory_property(targets IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    if(target MATCHES "__rosidl_generator_py$")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "")
    endif()
  endforeach()
endfunction()

cmake_language(DEFER CALL clear_wheel_includes)
