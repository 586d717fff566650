# From a folder of speech to new sound. `make demo` does everything; the targets below it are its stages.
#
#   make demo                        a small corpus of our own, both models, pictures and sounds under work/demo
#   make demo AUDIO=DIR              the same on a folder of .wav, .ogg, .flac and .mp3, under work/DIR
#   make features|vae|inverter|synth AUDIO=DIR RUN=DIR DEVICE=auto|cpu|cuda:N|wgpu:N STEPS=N PRESET=tiny|default|workshop
#   make test                        every test
#   make torture                     kills training and extraction at random moments, hundreds of times; each must come out as if left alone
#   make fuzz                        coverage-guided fuzzing of the readers, SECONDS=60 each (needs `cargo install cargo-fuzz`)
#   make test-wgpu                   networks, trainers and synth through wgpu against the CPU (Mesa's Vulkan in software will do; a long build)
#   make test-cuda                   CUDA without a GPU: every kernel through NVRTC and ptxas, and run by the CPU (a long build)
#   make rehearse-gpu                what scripts/gpu-check does on a GPU, in small, kernels run by the CPU (as long a build)
#   make smoke                       the demo in seconds, for continuous integration
#   make test-peers                  TensorBoard and numpy read what it left
#   make test-page                   the reports of what it left, in a browser: policy, sounds, keyboard, a phone's width (BROWSER=firefox)
#   make screenshots                 the README's pictures, of the demo
#   make test-torch                  PyTorch gives the same with the exported models (a few GB of packages)
#   make bench                       how long training steps, inference and signal processing take
#   make bench-peers                 the same in turns with PyTorch and librosa (PEER_FLAGS="--device cuda --compile")
#   make bench-extract AUDIO=DIR     feature extraction as a whole command beside librosa (TARGET_FLAGS="--target DIR" says where to)
#   make bench-sound AUDIO=DIR       what every chain from spectrum to sound loses: LSD, MCD, PESQ, ESTOI (the runs in RUN, if any)
#   make bench-latents               what each objective makes of latents, against known factors; goes on where it was interrupted
#                                    (SEEDS=3, STEPS=4000, SEGMENTS=10000, GRID=LEVELS, FULL=1 for the default network)
#   make gpu-bundle                  programs for scripts/gpu-check, to take to a machine with a GPU and nothing else

# A path as one word for the shell, whatever is in its name.
quoted = '$(subst ','\'',$(1))'
path = $(if $(filter ~/%,$(firstword $(1))),"$$HOME"/$(call quoted,$(subst ~/,,$(1))),$(call quoted,$(1)))

ifeq ($(origin AUDIO), undefined)
RUN ?= work/demo
AUDIO := $(RUN)/corpus
CORPUS := corpus
else
NAME := $(shell basename -- "$$(cd -- $(call path,$(AUDIO)) 2>/dev/null && pwd || echo $(call path,$(AUDIO)))")
RUN ?= work/$(NAME)
endif
DEVICE ?= auto
PRESET ?= default
CARGO ?= cargo
PROFILE ?= release
BIN = $(call path,$(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE)))
# CUDA is compiled in where there is a GPU to use it; GPU="--features wgpu" is for other makers' cards.
GPU := $(shell nvidia-smi >/dev/null 2>&1 && echo --features cuda)
FEATURES = $(call path,$(RUN)/features)
VAE = $(call path,$(RUN)/vae)
INVERTER = $(call path,$(RUN)/inverter)
OUT = $(call path,$(RUN)/out)
TRAIN = $(FEATURES)/train $(FEATURES)/test --device $(DEVICE) --preset $(PRESET)
MODELS = --vae $(VAE) --inverter $(INVERTER) --device $(DEVICE) --png

.PHONY: demo build corpus features vae inverter synth test torture fuzz test-wgpu cuda-in-software test-cuda rehearse-gpu test-peers test-page screenshots test-torch smoke lint check-cuda bench bench-peers \
    bench-extract bench-sound bench-latents gpu-bundle clean
# Stages run in the order in which they are named, also under `make -j`; cargo and the programs use all cores by themselves.
.NOTPARALLEL:

demo: PRESET = tiny
demo: VAE_STEPS = $(or $(STEPS),2000)
demo: INVERTER_STEPS = $(or $(STEPS),1000)
demo: build $(CORPUS) features vae inverter synth
	@echo
	@echo "Sounds and pictures are in "$(OUT)"; in a picture the input is on top, then what was decoded, then what sounds:"
	@ls $(OUT)/*.wav $(OUT)/*/*.wav
	@echo "Training curves: tensorboard --logdir "$(call path,$(RUN))

build:
	$(CARGO) build --profile $(PROFILE) --bins $(GPU)

corpus: build
	$(BIN)/make-corpus $(call path,$(RUN)/corpus) --overwrite $(CORPUS_FLAGS)

features: build
	$(BIN)/extract-features $(call path,$(AUDIO)) $(FEATURES) $(FEATURE_FLAGS)

VAE_STEPS ?= $(STEPS)
INVERTER_STEPS ?= $(STEPS)

vae: build
	$(BIN)/train-vae $(VAE) $(TRAIN) $(if $(VAE_STEPS),--steps $(VAE_STEPS))

inverter: build
	$(BIN)/train-inverter $(INVERTER) $(TRAIN) $(if $(INVERTER_STEPS),--steps $(INVERTER_STEPS))

synth: build
	@input="$$(find $(FEATURES)/test -name '*.feat.npz' | sort | head -n 1)" && set -x && \
	$(BIN)/synth reconstruct $(MODELS) "$$input" $(OUT)/reconstruct.wav && \
	$(BIN)/synth vocode --inverter $(INVERTER) --device $(DEVICE) --png "$$input" $(OUT)/vocode.wav && \
	$(BIN)/synth sample $(MODELS) --seconds 3 $(OUT)/sample.wav && \
	$(BIN)/synth traverse $(MODELS) --latent 0 --steps 5 --overwrite "$$input" $(OUT)/traverse && \
	$(BIN)/synth encode --vae $(VAE) --device $(DEVICE) "$$input" $(OUT)/codes.npz

test:
	$(CARGO) test

torture:
	$(CARGO) test --test it -- --ignored --nocapture torture_

# Findings are kept in fuzz/artifacts. Without sanitizers a stable compiler does: what is looked for are panics, hangs and memory.
fuzz: SECONDS = 60
fuzz: smoke
	mkdir -p fuzz/corpus/features
	cp "$$(find work/smoke/features/test -name '*.feat.npz' | sort | head -n 1)" fuzz/corpus/features/seed
	for kind in wav ogg flac mp3; do mkdir -p fuzz/corpus/$$kind && cp tests/data/decode/*.$$kind fuzz/corpus/$$kind || exit 1; done
	for target in wav ogg flac mp3 features; do \
	    $(CARGO) fuzz run --sanitizer none $$target -- -max_total_time=$(SECONDS) -timeout=5 -rss_limit_mb=512 -max_len=65536 || exit 1; \
	done

# Where there is no other GPU, on Mesa's in software.
test-wgpu:
	find /usr/share/vulkan/icd.d /etc/vulkan/icd.d -name '*.json' 2>/dev/null | grep -q . || test "$$(uname)" != Linux || \
	    (apt-get update -qq && apt-get install -qq -y --no-install-recommends libvulkan1 mesa-vulkan-drivers)
	$(CARGO) test --features wgpu-untuned --test it gpu::

# Building the tests builds the programs as well, with one Burn for both; with another CUDA_PATH it would be built anew.
SOFTWARE_GPU = work/venv-cuda/bin/python scripts/software_gpu.py work/software-gpu
cuda-in-software:
	test -x work/venv-cuda/bin/pip || python3 -m venv --clear work/venv-cuda
	work/venv-cuda/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-cuda.txt
	$(SOFTWARE_GPU) $(CARGO) test --features cuda --test it --no-run

test-cuda: smoke cuda-in-software
	work/venv-cuda/bin/python scripts/check_cuda.py $(BIN_DEV) work/smoke/features work/cuda
	$(SOFTWARE_GPU) $(CARGO) test --features cuda --test it gpu::

rehearse-gpu: cuda-in-software
	tar -C $(BIN_DEV) -cf work/rehearsal.tar $(BUNDLED)
	$(SOFTWARE_GPU) scripts/gpu-check --quick --bundle work/rehearsal.tar --limit 6000 --parts startup,parity,bf16,resume work/rehearsal

SMOKE = PROFILE=dev RUN=work/smoke STEPS=30 DEVICE=cpu
SMOKE_TRAIN = work/smoke/features/train work/smoke/features/test --device cpu --preset tiny
BIN_DEV = $(call path,$(or $(CARGO_TARGET_DIR),target)/debug)
smoke:
	rm -rf work/smoke
	$(MAKE) demo $(SMOKE) CORPUS_FLAGS="--speakers 2 --utterances 3 --seconds 1.5 --test-fraction 0.34"

# What users read our files with: TensorBoard and numpy, pinned, in an environment of their own. The VAE's run is put back to
# its start, as if it had been killed before it saved: what was logged twice must be shown once.
test-peers: smoke
	rm -r work/smoke/vae/step-00000030
	$(MAKE) vae $(SMOKE) PRESET=tiny
	test -x work/venv/bin/pip || python3 -m venv --clear work/venv
	work/venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-peers.txt
	work/venv/bin/python scripts/check_peers.py work/smoke

# Reports of the demo's runs, and of two VAEs together, opened in Chromium or Firefox, which are Debian's and installed where they are
# missing. Screenshots are kept in work/page.
BROWSER ?= chromium
PACKAGE_chromium = chromium
PACKAGE_firefox = firefox-esr pulseaudio
PAGES = work/page/vae.html work/page/inverter.html work/page/several.html
REPORT = $(BIN_DEV)/evaluate report --device cpu
test-page: smoke
	which $(PACKAGE_$(BROWSER)) > /dev/null || \
	    (apt-get update -qq && apt-get install -qq -y --no-install-recommends $(PACKAGE_$(BROWSER)) fonts-dejavu-core)
	test -x work/venv-page/bin/pip || python3 -m venv --clear work/venv-page
	work/venv-page/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-page.txt
	rm -rf work/page && mkdir -p work/page
	$(BIN_DEV)/train-vae work/page/other $(SMOKE_TRAIN) --steps 30 --beta 1
	$(BIN_DEV)/evaluate latents --vae work/smoke/vae --device cpu --samples 0 --name work/smoke/features/train
	$(BIN_DEV)/evaluate audio --run work/smoke/inverter "$$(find work/smoke/features/test -name '*.feat.npz' | sort | head -n 1)" \
	    work/smoke/out/vocode.wav
	$(REPORT) work/smoke/vae -o work/page/vae.html
	$(REPORT) work/smoke/inverter -o work/page/inverter.html
	$(REPORT) work/smoke/vae work/page/other work/smoke/inverter -o work/page/several.html
	work/venv-page/bin/python scripts/check_page.py --browser $(BROWSER) work/page/screenshots $(PAGES)
	$(CARGO) test --test it explorer::
	work/venv-page/bin/python scripts/check_explorer.py $(or $(CARGO_TARGET_DIR),target)/tmp/explorer --browser $(BROWSER) \
	    --shots work/page/screenshots/explorer --synth $(BIN_DEV)/synth

# The README's pictures, of the demo's VAE. The numbers that the README gives of it are the report's.
screenshots: demo
	test -x /usr/bin/chromium || (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core)
	test -x work/venv-page/bin/pip || python3 -m venv --clear work/venv-page
	work/venv-page/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-page.txt
	$(BIN)/evaluate report work/demo/vae --inverter work/demo/inverter -o work/demo/report.html
	work/venv-page/bin/python scripts/screenshots.py work/demo/report.html docs

# A recurrent VAE and a moving average beside the models of the demo; PyTorch in the environment of `bench-peers`.
test-torch: smoke
	$(BIN_DEV)/train-vae work/smoke/lstm $(SMOKE_TRAIN) --arch lstm --steps 30 --ema 0.9
	test -x work/venv-bench/bin/pip || python3 -m venv --clear work/venv-bench
	work/venv-bench/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-bench.txt
	work/venv-bench/bin/python scripts/check_torch.py $(BIN_DEV) \
	    "$$(find work/smoke/features/test -name '*.feat.npz' | sort | head -n 1)" work/smoke/vae work/smoke/lstm work/smoke/inverter

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

check-cuda:
	$(CARGO) check --all-targets --features cuda

bench:
	$(CARGO) bench --bench steps $(GPU)

bench-peers:
	test -x work/venv-bench/bin/pip || python3 -m venv --clear work/venv-bench
	work/venv-bench/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-bench.txt
	work/venv-bench/bin/python scripts/bench_peers.py --json work/bench-peers.json $(PEER_FLAGS)

bench-extract: build $(CORPUS)
	test -x work/venv-bench/bin/pip || python3 -m venv --clear work/venv-bench
	work/venv-bench/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-bench.txt
	work/venv-bench/bin/python scripts/bench_extract.py --ours $(BIN)/extract-features $(TARGET_FLAGS) $(call path,$(AUDIO))

# The trained runs of RUN are heard too, where there are such; SOUND_FLAGS="--vae DIR --inverter DIR" names others.
bench-sound: build $(CORPUS)
	test -x work/venv-sound/bin/pip || python3 -m venv --clear work/venv-sound
	work/venv-sound/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
	work/venv-sound/bin/python scripts/bench_sound.py --bin $(BIN) --work $(call path,$(RUN)/sound) --device $(DEVICE) \
	    --json $(call path,$(RUN)/sound.json) --run $(call path,$(RUN)) $(SOUND_FLAGS) $(call path,$(AUDIO))

# One and a half hours on two quiet cores. Other settings need another LATENTS.
LATENTS ?= work/latents
SEEDS ?= 3
SEGMENTS ?= 10000
bench-latents: build
	python3 scripts/bench_latents.py --bin $(BIN) --work $(call path,$(LATENTS)) --device $(DEVICE) --seeds $(SEEDS) \
	    --steps $(or $(STEPS),4000) --segments $(SEGMENTS) $(if $(GRID),--grid $(GRID)) $(if $(FULL),--full)

BUNDLE = work/gpu-bundle
BUNDLE_FEATURES ?= --features cuda
BUNDLED = make-corpus extract-features train-vae train-inverter

# `cargo bench --no-run` builds the programs as well; only it knows what the benchmark's file is called.
gpu-bundle:
	rm -rf $(BUNDLE) && mkdir -p $(BUNDLE)/bin
	$(CARGO) bench --bench steps --no-run $(BUNDLE_FEATURES) --message-format=json-render-diagnostics > $(BUNDLE)/cargo.json
	cp "$$(sed -n 's/.*"executable":"\([^"]*\/steps-[^"]*\)".*/\1/p' $(BUNDLE)/cargo.json)" $(BUNDLE)/bin/steps
	cp $(BUNDLED:%=$(call path,$(or $(CARGO_TARGET_DIR),target)/release)/%) $(BUNDLE)/bin
	strip $(BUNDLE)/bin/*
	git describe --always --dirty > $(BUNDLE)/bin/commit
	tar -C $(BUNDLE)/bin -cf - . | xz --lzma2=preset=9,dict=256MiB > $(BUNDLE)/gpu-bundle.tar.xz
	rm -r $(BUNDLE)/bin $(BUNDLE)/cargo.json
	ls -l $(BUNDLE)/gpu-bundle.tar.xz

clean:
	$(CARGO) clean
	rm -rf work
