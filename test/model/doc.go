// Package model runs dspex with a real language model: llama.cpp's server and a model of 0.24 GB (`make test-model`).
package model
