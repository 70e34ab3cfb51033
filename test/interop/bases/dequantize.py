"""The same GGUF file in float32, by gguf-py: dequantize.py GGUF_PY IN.gguf OUT.gguf; prints the types of its tensors."""

import sys

sys.path.insert(0, sys.argv[1])
import gguf

reader = gguf.GGUFReader(sys.argv[2])
writer = gguf.GGUFWriter(sys.argv[3], reader.fields["general.architecture"].contents())
for name, field in reader.fields.items():
    if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
        continue
    value = field.contents()
    inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(name, value, field.types[0], sub_type=inner)
types = set()
for tensor in reader.tensors:
    types.add(tensor.tensor_type.name)
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    writer.add_tensor(tensor.name, values.reshape([int(size) for size in reversed(tensor.shape)]).astype("float32"))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
print(" ".join(sorted(types - {"F32"})))
