# From a folder of speech to new sound. `make demo` does everything; the targets below it are its stages.
#
#   make demo                        a small corpus of our own, both models, pictures and sounds under work/demo
#   make demo AUDIO=DIR              the same on a folder of .wav and .ogg, under work/DIR
#   make features|vae|inverter|synth AUDIO=DIR RUN=DIR DEVICE=auto|cpu|cuda:N STEPS=N PRESET=tiny|default|workshop
#   make test                        every test
#   make smoke                       the demo in seconds, for continuous integration
#   make test-peers                  TensorBoard and numpy read what it left
#   make bench                       how long training steps, inference and signal processing take
#   make bench-peers                 the same in turns with PyTorch and librosa (PEER_FLAGS="--device cuda --compile")
#   make gpu-bundle                  programs for scripts/gpu-check, to take to a machine with a GPU and nothing else

ifeq ($(origin AUDIO), undefined)
RUN ?= work/demo
AUDIO := $(RUN)/corpus
CORPUS := corpus
else
RUN ?= work/$(notdir $(abspath $(AUDIO)))
endif
DEVICE ?= auto
PRESET ?= default
CARGO ?= cargo
PROFILE ?= release
BIN = target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# CUDA is compiled in where there is a GPU to use it.
CUDA := $(shell nvidia-smi >/dev/null 2>&1 && echo --features cuda)
TRAIN = $(RUN)/features/train $(RUN)/features/test --device $(DEVICE) --preset $(PRESET)
MODELS = --vae $(RUN)/vae --inverter $(RUN)/inverter --device $(DEVICE) --png
OUT = $(RUN)/out

.PHONY: demo build corpus features vae inverter synth test test-peers smoke lint check-cuda bench bench-peers gpu-bundle clean

# Each stage is a make of its own, so that the order holds also under `make -j`.
demo:
	@$(MAKE) --no-print-directory build
	@$(if $(CORPUS),$(MAKE) --no-print-directory corpus)
	@$(MAKE) --no-print-directory features
	@$(MAKE) --no-print-directory vae inverter -j1 PRESET=tiny VAE_STEPS=$(or $(STEPS),2000) INVERTER_STEPS=$(or $(STEPS),1000)
	@$(MAKE) --no-print-directory synth
	@echo
	@echo "Sounds and pictures are in $(OUT); in a picture the input is on top, then what was decoded, then what sounds:"
	@ls $(OUT)/*.wav $(OUT)/*/*.wav
	@echo "Training curves: tensorboard --logdir $(RUN)"

build:
	$(CARGO) build --profile $(PROFILE) --bins $(CUDA)

corpus: build
	$(BIN)/make-corpus $(RUN)/corpus --overwrite $(CORPUS_FLAGS)

features: build
	$(BIN)/extract-features $(AUDIO) $(RUN)/features --overwrite

VAE_STEPS ?= $(STEPS)
INVERTER_STEPS ?= $(STEPS)

vae: build
	$(BIN)/train-vae $(RUN)/vae $(TRAIN) $(if $(VAE_STEPS),--steps $(VAE_STEPS))

inverter: build
	$(BIN)/train-inverter $(RUN)/inverter $(TRAIN) $(if $(INVERTER_STEPS),--steps $(INVERTER_STEPS))

synth: build
	@input="$$(find $(RUN)/features/test -name '*.feat.npz' | sort | head -n 1)" && set -x && \
	$(BIN)/synth reconstruct $(MODELS) "$$input" $(OUT)/reconstruct.wav && \
	$(BIN)/synth vocode --inverter $(RUN)/inverter --device $(DEVICE) --png "$$input" $(OUT)/vocode.wav && \
	$(BIN)/synth sample $(MODELS) --seconds 3 $(OUT)/sample.wav && \
	$(BIN)/synth traverse $(MODELS) --latent 0 --steps 5 "$$input" $(OUT)/traverse && \
	$(BIN)/synth encode --vae $(RUN)/vae --device $(DEVICE) "$$input" $(OUT)/codes.npz

test:
	$(CARGO) test

smoke:
	rm -rf work/smoke
	$(MAKE) demo PROFILE=dev RUN=work/smoke STEPS=30 DEVICE=cpu \
		CORPUS_FLAGS="--speakers 2 --utterances 3 --seconds 1.5 --test-fraction 0.34"

# What users read our files with: TensorBoard and numpy, pinned, in an environment of their own.
test-peers: smoke
	test -x work/venv/bin/python || python3 -m venv work/venv
	work/venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-peers.txt
	work/venv/bin/python scripts/check_peers.py work/smoke

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

check-cuda:
	$(CARGO) check --bins --features cuda

bench:
	$(CARGO) bench --bench steps $(CUDA)

bench-peers:
	test -x work/venv-bench/bin/python || python3 -m venv work/venv-bench
	work/venv-bench/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-bench.txt
	work/venv-bench/bin/python scripts/bench_peers.py --json work/bench-peers.json $(PEER_FLAGS)

BUNDLE = work/gpu-bundle
BUNDLE_FEATURES ?= --features cuda
BUNDLED = make-corpus extract-features train-vae train-inverter

# `cargo bench --no-run` builds the programs as well; only it knows what the benchmark's file is called.
gpu-bundle:
	rm -rf $(BUNDLE) && mkdir -p $(BUNDLE)/bin
	$(CARGO) bench --bench steps --no-run $(BUNDLE_FEATURES) --message-format=json-render-diagnostics > $(BUNDLE)/cargo.json
	cp "$$(sed -n 's/.*"executable":"\([^"]*\/steps-[^"]*\)".*/\1/p' $(BUNDLE)/cargo.json)" $(BUNDLE)/bin/steps
	cp $(BUNDLED:%=target/release/%) $(BUNDLE)/bin
	strip $(BUNDLE)/bin/*
	tar -C $(BUNDLE)/bin -cf - . | xz --lzma2=preset=9,dict=256MiB > $(BUNDLE)/gpu-bundle.tar.xz
	rm -r $(BUNDLE)/bin $(BUNDLE)/cargo.json
	ls -l $(BUNDLE)/gpu-bundle.tar.xz

clean:
	$(CARGO) clean
	rm -rf work
