"""The integrals in C++ (kernels.cpp), and what calls them."""
