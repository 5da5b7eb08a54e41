"""Failures of specs and files the user writes."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

_AGAIN = "then run the same command again: {command}"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="SpecInvalid",
        title="The spec cannot be used",
        cause="One or more keys or values of the spec are wrong; each is listed with its place.",
        fix=f"Correct each place that is listed, {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
        family="BadArgument",
    ),
    Entry(
        code="PreflightFailed",
        title="The deployment cannot work as it is",
        cause="The spec, the scoring script, its imports, the packages asked for and the files of the model were looked "
        "at before anything was sent; each problem is listed with its place.",
        fix=f"Correct each place that is listed, {_AGAIN}",
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=400,
        evidence=(Evidence.PLACES,),
        family="BadArgument",
    ),
    Entry(
        code="SpecValueInvalid",
        title="A value is not of the kind this key takes",
        cause=(
            "The value has the wrong type, lies outside its limits or does not fit the values of other keys."
        ),
        fix=f"Correct the value of {{key}}, {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
        family="BadArgument",
    ),
    Entry(
        code="SpecKeyUnknown",
        title="A key is not known",
        cause="The key is misspelt, belongs to another place or is the spelling of an older format.",
        fix=f"Remove {{key}} or put it right, {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="BatchNotServed",
        title="Batch endpoints are not served here",
        cause="The file or a flag asks for `type: batch`; this workspace has online endpoints only.",
        fix="Make it an online endpoint (`type: online`), then: moor endpoint create -f endpoint.yml",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="SpecKeyMissing",
        title="A required key is missing",
        cause="The spec leaves out a key that has no default.",
        fix=f"Add {{key}}, {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="SpecPathNotFound",
        title="A file or folder that the spec names is not there",
        cause="Relative paths start at the folder of the YAML file that contains them.",
        fix=f"Correct the path of {{key}} (what is there: ls {{folder}}), {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="SpecPathUnusable",
        title="A path of the spec cannot be used",
        cause=(
            "The path is a folder where a file is needed or the reverse, leads out of the code "
            "folder, or may not be read."
        ),
        fix=f"Correct the path of {{key}} (what is there: ls -la {{folder}}), {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="SpecFileUnreadable",
        title="The file cannot be read",
        cause="There is no such file, it is not a regular file, or its permissions do not let you read it.",
        fix="Look at it: ls -la {folder}   and give the right path with -f.",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="SpecTooLarge",
        title="The file is too large for a spec",
        cause=(
            "A spec is at most 1 MiB, 64 levels deep and 20 000 values long; this file is not a "
            "spec, or repeats itself by aliases."
        ),
        fix="Give the YAML spec, not a data or model file: moor online-deployment create -f deployment.yml",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="SpecNotYaml",
        title="The file is not a YAML spec",
        cause=(
            "The text is not valid YAML, not UTF-8, holds several documents or tags, or is no "
            "mapping of keys to values."
        ),
        fix=f"Correct the named place, {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="SpecKeyTwice",
        title="A key is given twice",
        cause="The same mapping has the same key more than once, so one of the values would be lost.",
        fix=f"Keep one of the two lines of {{key}}, {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="ReferenceInvalid",
        title="A reference is not well formed",
        cause=(
            "A registered asset is named as azureml:name:version, azureml:name@latest, a registry "
            "address or an ARM id."
        ),
        fix=f"Correct the reference of {{key}}, {_AGAIN}",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="EnvironmentIsCondaFile",
        title="This is a conda file, not an environment spec",
        cause="The mapping has `channels` or `dependencies` at its top, which belong into a conda file.",
        fix="Keep the conda file as it is and name it from the environment: "
        "`environment: {{image: ..., conda_file: {file}}}`, "
        "then: moor online-deployment create -f deployment.yml",
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="KubernetesNotAvailable",
        title="Kubernetes deployments are not available",
        cause="This workspace runs deployments as processes of this machine; it has no cluster attached.",
        fix=(
            "Remove the line `type: kubernetes` (and `resources:`), then: moor online-deployment "
            "create -f deployment.yml"
        ),
        fault=Fault.USER,
        step=Step.SPEC,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="ChangeExpressionInvalid",
        title="A --set, --add or --remove expression cannot be applied",
        cause="The expression is not `path=value`, or its path does not fit what is there.",
        fix=(
            "Write it like: --set request_settings.request_timeout_ms=3000 tags.team=vision   "
            "(--remove tags.team)"
        ),
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="NameMismatch",
        title="Two names that must agree differ",
        cause="The name in the file or expression is not that of the resource which is updated.",
        fix=(
            "Make them agree, or leave the name out of the file: moor online-deployment update -n "
            "{name} -f deployment.yml"
        ),
        fault=Fault.USER,
        step=Step.CLIENT,
        http_status=400,
        evidence=(Evidence.PLACES,),
    ),
    Entry(
        code="AssetNotRegistered",
        title="An asset was not registered before it was sent",
        cause=(
            "The control API takes references only; the client registers what is inline first. A "
            "defect of Moorings."
        ),
        fix=(
            "Report it with the spec; meanwhile name a registered version (azureml:name:version) in "
            "the deployment YAML."
        ),
        fault=Fault.PLATFORM,
        step=Step.CLIENT,
        http_status=500,
    ),
)
