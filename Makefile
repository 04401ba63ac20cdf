# The template's own targets; the rendered repo has a Makefile of the same habits.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
VERBS := demo docs contract browser bench test check fix lock clean
.PHONY: help setup install scanners $(VERBS)

PYTHON ?= python3
override PYTHON := $(value PYTHON)# as it is, in the recipes' environment; the rendered Makefile gets all that is given
export PYTHON
BIN := .venv/bin
MAKEOVERRIDES :=# what is given reaches the rendered Makefile in the environment alone: it refuses what its verbs don't take
# A variable of the command line that the verb doesn't take would change nothing: it is refused, with the nearest right one.
GIVEN := BASE_IMAGE DOMAIN FRESH GROWTH ON QUICK ROWS UPGRADE
said := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
verbs := $(filter-out setup scanners install,$(or $(filter %,$(MAKECMDGOALS)),help))
taken = $(filter $(GIVEN),$(shell sed -n '/^$(1):/,/^$$/p' Makefile | grep -oE '[A-Z_]+'))
takes := $(if $(and $(said),$(verbs)),$(sort $(foreach verb,$(verbs),$(call taken,$(verb)))))
takes += $(if $(filter ON,$(takes)),BASE_IMAGE)
nearest = $(shell python3 -c 'import difflib, sys; known = {name.upper(): name for name in sys.argv[2:]}; \
  print(*map(known.get, difflib.get_close_matches(sys.argv[1].upper(), known, 1, 0.5)))' '$(subst ','\'',$(1))' $(2) 2>/dev/null)
mean = $(if $(1),; did you mean $(1)?,.)
$(foreach name,$(if $(verbs),$(filter-out PYTHON BIN $(takes),$(said))),$(error make $(verbs) takes no \
  $(name)$(call mean,$(call nearest,$(name),$(takes))) It takes $(or $(strip $(takes)),nothing). Nothing was done))
$(foreach name,FRESH GROWTH QUICK UPGRADE,$(if $(filter-out yes no,$(value $(name))),$(error $(name)=$(value $(name)): it is yes or no)))
TEMPLATE := {{cookiecutter.project_slug}}
DOMAIN ?= table
SLUG_table := customer-churn
SLUG_image := drawn-shapes
SLUG_timeseries := store-sales
DEMO := build/$(or $(SLUG_$(DOMAIN)),$(error DOMAIN=$(DOMAIN): it is table, image or timeseries))

help: ## list the targets
	@sed -nE "s/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p" Makefile | expand -t 16

.DEFAULT:
	@echo "make has no verb $@$(call mean,$(call nearest,$@,$(VERBS))) \`make\` lists them." >&2; exit 2

demo: setup ## render the default use case into build/, then train, score, monitor and explain it [DOMAIN=table, image or timeseries, ON=docker]
	@rm -rf $(DEMO)
	@git clean -fdXq -- "$(TEMPLATE)" # caches of tools that ran in the template would be rendered too
	@$(BIN)/cookiecutter . --no-input --output-dir build domain=$(DOMAIN)
	@$(MAKE) -C $(DEMO) train
	@$(MAKE) -C $(DEMO) score

docs: setup ## build the documentation as a site, strictly, into build/site/: docs/ and the rendered repository's guides
	@rm -rf build/pages build/site && mkdir -p build && cp -R docs build/pages && cp -R "$(TEMPLATE)/docs" build/pages/guides
	@find build/pages -name '*.md' -exec sed -i.before 's#](../$(TEMPLATE)/docs/#](guides/#g' {} + && find build/pages -name '*.before' -delete
	@NO_COLOR=1 $(BIN)/zensical build --strict --clean --config-file zensical.toml > build/site.log 2>&1 || { cat build/site.log >&2; exit 1; }
	@echo "the documentation: build/site/index.html"

contract: demo scanners ## ask the demo's images what SageMaker asks of them; engine, Local Mode, buildspec (needs docker) [ON=docker: the demo in them too] [DOMAIN=image or timeseries: its images alone]
	@MAKEFLAGS= $(MAKE) -C $(DEMO) contract # takes no ON
	@$(if $(filter table,$(DOMAIN)),RENDERED=$(DEMO) $(BIN)/python -m pytest tests/plumbing/contract -n 2 --dist loadfile)

browser: setup ## the reports in a real browser (Debian: chromium, chromium-driver)
	@$(BIN)/python -m pytest tests/plumbing/browser

bench: setup ## the components beside what one would write instead, and the least work [ROWS="…"] [QUICK=yes] [GROWTH=yes] [FRESH=yes]
	@$(BIN)/python benchmarks/bench.py $(foreach name,quick growth fresh,$(if $(filter yes,$($(shell echo $(name) | tr a-z A-Z))),--$(name))) $(ROWS)

test: setup scanners ## render it in many ways, and test everything in it
	@$(BIN)/python -m pytest tests/plumbing -n 2 --dist loadfile
	@$(BIN)/python -m pytest tests --ignore tests/plumbing

check: setup ## formatting, lint and types of the template's own code; the rendered repo's run in `make test`
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

fix: setup ## format and mend what can be mended
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

setup: # the template's environment, unless the lock is what is installed
	@cmp -s requirements.lock .venv/installed || $(MAKE) install

install:
	@echo "installing the template's tools (once)"
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11 …")'
	@"$$PYTHON" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$(TEMPLATE)/locks/uv.txt"
	@$(BIN)/uv pip sync --quiet --require-hashes --python .venv requirements.lock "$(TEMPLATE)/locks/uv.txt"
	@cp requirements.lock .venv/installed

scanners: # in an environment of their own, which the rendered repository has too
	@cmp -s "$(TEMPLATE)/locks/scanners.txt" .venv-scanners/installed || { $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-scanners \
	  && $(BIN)/uv pip sync --quiet --require-hashes --python .venv-scanners "$(TEMPLATE)/locks/scanners.txt" && cp "$(TEMPLATE)/locks/scanners.txt" .venv-scanners/installed; }

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: setup ## resolve the dependencies anew, the rendered repo's first [UPGRADE=yes]
	@cd "$(TEMPLATE)" && "$(CURDIR)"/$(BIN)/$(COMPILE) $(if $(filter yes,$(UPGRADE)),--upgrade) --group development --output-file locks/development.txt
	@cd "$(TEMPLATE)" && for group in uv components processing algorithm monitoring explainability; do \
	  "$(CURDIR)"/$(BIN)/$(COMPILE) --group $$group --constraint locks/development.txt --output-file locks/$$group.txt; done
	@cd "$(TEMPLATE)" && for group in scanners auditors; do \
	  "$(CURDIR)"/$(BIN)/$(COMPILE) $(if $(filter yes,$(UPGRADE)),--upgrade) --group $$group --output-file locks/$$group.txt; done
	@for domain in "$(TEMPLATE)"/domains/*/; do [ -f "$$domain/groups.toml" ] || continue; made=$$(mktemp -d) && \
	  $(BIN)/cookiecutter . --no-input --output-dir "$$made" domain=$$(basename "$$domain") project_slug=case aws_resources=skip >/dev/null && \
	  (cd "$$made/case" && "$(CURDIR)"/$(BIN)/$(COMPILE) $(if $(filter yes,$(UPGRADE)),--upgrade) --group development --output-file locks/development.txt && \
	  for group in components processing algorithm monitoring explainability $$(grep -oE '^(algorithm|explainability)-gpu' pyproject.toml); do \
	  "$(CURDIR)"/$(BIN)/$(COMPILE) --group $$group --constraint locks/development.txt --output-file locks/$$group.txt; done) && \
	  mkdir -p "$$domain/locks" && for name in development components processing algorithm monitoring explainability \
	  $$(grep -oE '^(algorithm|explainability)-gpu' "$$made/case/pyproject.toml"); do \
	  cp "$$made/case/locks/$$name.txt" "$$domain/locks/"; done; rm -r "$$made"; done
	@$(BIN)/$(COMPILE) --group development --group "$(TEMPLATE)/pyproject.toml:development" --constraint "$(TEMPLATE)/locks/development.txt" --output-file requirements.lock
	@for peer in benchmarks/peers/*.in; do $(BIN)/$(COMPILE) $(if $(filter yes,$(UPGRADE)),--upgrade) $$peer --output-file $${peer%.in}.txt; done
	@$(BIN)/$(COMPILE) --group models --constraint "$(TEMPLATE)/locks/development.txt" --output-file docs/models/requirements.lock
	@$(BIN)/$(COMPILE) $(if $(filter yes,$(UPGRADE)),--upgrade) docs/spark/requirements.in --output-file docs/spark/requirements.lock

clean: ## remove what make demo rendered
	@rm -rf build
