/* A GGUF file as llama.cpp quantizes it: quantize IN.gguf OUT.gguf FTYPE, a number of llama.h's llama_ftype. */
#include <stdlib.h>
#include "llama.h"

static void silent(enum ggml_log_level level, const char *text, void *user) {
  (void) level, (void) text, (void) user;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  llama_log_set(silent, NULL);
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = (enum llama_ftype) atoi(argv[3]);
  params.nthread = 1;
  return (int) llama_model_quantize(argv[1], argv[2], &params);
}
