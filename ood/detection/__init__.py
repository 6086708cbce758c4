"""Detection: what turns logits and features into scores; larger = more OOD. Tensors in, tensors out: knows no data, training or metrics."""
