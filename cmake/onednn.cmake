# oneDNN for the CPU device's large products, where it is found. Its threads are OpenMP's, so ours are then too
# (host/device/cpu/pool_openmp.c). Without it the products are plain C.
if(KF_ONEDNN)
    # Not by its own package file: Debian's asks for OpenCL's headers, which a program on the CPU does not need.
    find_path(DNNL_INCLUDE_DIR dnnl.h)
    find_library(DNNL_LIBRARY dnnl)
    find_package(OpenMP QUIET COMPONENTS C)
    if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY AND OpenMP_C_FOUND)
        target_compile_definitions(kefu_engine PRIVATE KF_HAVE_ONEDNN)
        target_include_directories(kefu_engine SYSTEM PRIVATE ${DNNL_INCLUDE_DIR})
        target_link_libraries(kefu_engine PRIVATE ${DNNL_LIBRARY} OpenMP::OpenMP_C)
        message(STATUS "products on the CPU: oneDNN (${DNNL_LIBRARY})")
    else()
        message(STATUS "products on the CPU: plain C (oneDNN or OpenMP was not found)")
    endif()
else()
    message(STATUS "products on the CPU: plain C (KF_ONEDNN is OFF)")
endif()
