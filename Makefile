# make course | test | lab | site : each sets up what it needs, once.
PYTHON ?= python3
RUN = .venv/bin/
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: course test test-laws test-kernels test-notebooks test-browser fuzz bench lab-times lab site setup export pictures clean

course: setup   ## run every chapter at preset fast and build the site
	$(RUN)lla-course site

test: setup     ## the whole suite: laws, house rules, every notebook, the browser
	$(RUN)python -m pytest -n 2 --dist loadgroup

PYTEST = $(RUN)python -m pytest -n 2 --dist loadgroup
test-laws: setup       ## the suite in four parts: everything that is neither a kernel, a notebook nor a page
	$(PYTEST) --ignore=tests/kernels --ignore=tests/browser --ignore=tests/test_notebooks.py
test-kernels: setup    ## the kernels, interpreted and compiled ahead of time
	$(PYTEST) tests/kernels
test-notebooks: setup  ## every chapter, at preset fast
	$(PYTEST) tests/test_notebooks.py
test-browser: setup    ## the site and the labs, in headless Chromium
	$(PYTEST) tests/browser

N ?= 1000
fuzz: setup     ## N random cases (make fuzz N=10000) of flash_lla and lla_decode against float64, row by row
	$(RUN)python tests/fuzz.py $(N)

bench: setup    ## ratios to other libraries, measured side by side on this machine
	$(RUN)python tests/bench.py

lab-times: setup  ## how long each control of each lab takes to bring new data, into tests/lab_times.json
	$(RUN)python tests/labs.py

lab: setup      ## JupyterLab on nbs/ (loopback, token on)
	$(RUN)lla-course lab

site: setup     ## the static site alone (chapters that are up to date are not run again)
	$(RUN)lla-course site

export: setup   ## after editing a notebook: regenerate the library, strip outputs
	$(RUN)nbdev_export
	$(RUN)jupyter nbconvert --clear-output --inplace --log-level WARN nbs/*.ipynb
	$(RUN)nbdev_clean

pictures: site  ## one PNG a chapter, and a page, a lab and a slide for the README (needs Chromium)
	$(RUN)lla-course pictures
	$(RUN)python tests/screenshots.py

setup: .venv/.ready
.venv/.ready: settings.ini constraints.txt setup.py pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(RUN)python -m pip install -q -c constraints.txt pip setuptools wheel
	PYTHONWARNINGS=ignore $(RUN)python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

clean:
	rm -rf build .venv
