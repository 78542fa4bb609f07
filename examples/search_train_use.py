"""Search a cell on the digits, train it, and use it: some 15 seconds on one CPU core, no download.

python examples/search_train_use.py
"""

import torch

import darts_hpc
from darts_hpc.data.sets.load import load_dataset


def main() -> None:
    found = darts_hpc.search_cell(config="configs/search/tiny.yaml", device="cpu")
    print(f"found in {found.folder}: {found.genotype}")

    trained = darts_hpc.train_cell(config="configs/train/tiny.yaml", arch=found.folder, device="cpu")
    print(f"accuracy: {trained.accuracy:.2f} % of the test images")

    model = darts_hpc.create_model(trained.folder, weights=True)  # images (B, 3, H, W), normalised, to logits (B, 10)
    preprocessing = trained.result["preprocessing"]
    digits = load_dataset(preprocessing["dataset"], trained.folder, image_size=preprocessing["image_size"])
    mean, std = (torch.tensor(preprocessing[name])[:, None, None] for name in ("mean", "std"))
    with torch.no_grad():
        logits = model((digits.test.images[:10] / 255 - mean) / std)
    print("predicted:", [preprocessing["classes"][index] for index in logits.argmax(1)])
    print("true:     ", [preprocessing["classes"][index] for index in digits.test.labels[:10]])


if __name__ == "__main__":
    main()
