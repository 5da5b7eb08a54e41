"""All commands, as one table. What they do is imported when they run."""

from __future__ import annotations

import click

from moorings import __version__
from moorings.cli.framework import Lazy, LazyGroup

_COMMANDS = "moorings.cli.commands"


def _endpoint() -> LazyGroup:
    at = f"{_COMMANDS}.endpoint"
    return LazyGroup(
        "online-endpoint",
        help="Scoring addresses: authentication and traffic.",
        lazy={
            "create": Lazy(f"{at}:create", "Create an endpoint, or replace its settings."),
            "show": Lazy(f"{at}:show", "Show an endpoint: state, scoring URI, traffic."),
            "list": Lazy(f"{at}:list_", "List the endpoints."),
            "update": Lazy(f"{at}:update", "Change an endpoint: traffic, tags, authentication."),
            "delete": Lazy(f"{at}:delete", "Delete an endpoint with all its deployments."),
            "invoke": Lazy(f"{at}:invoke", "Score a request file."),
            "get-credentials": Lazy(f"{at}:get_credentials", "Print the keys, or a token."),
            "regenerate-keys": Lazy(f"{at}:regenerate_keys", "Replace a key."),
        },
    )


def _deployment() -> LazyGroup:
    at = f"{_COMMANDS}.deployment"
    return LazyGroup(
        "online-deployment",
        help="Versions of a model behind an endpoint.",
        lazy={
            "create": Lazy(f"{at}:create", "Deploy a model: from a YAML file to a live address."),
            "show": Lazy(f"{at}:show", "Show a deployment and its conditions."),
            "list": Lazy(f"{at}:list_", "List the deployments of an endpoint."),
            "update": Lazy(f"{at}:update", "Change a deployment; it goes on serving meanwhile."),
            "delete": Lazy(f"{at}:delete", "Delete a deployment that takes no traffic."),
            "get-logs": Lazy(f"{at}:get_logs", "Print the last lines of its log."),
        },
    )


def _form() -> LazyGroup:
    at = f"{_COMMANDS}.form"
    return LazyGroup(
        "endpoint",
        help="Endpoints with their deployments in one file (the form of 2021).",
        lazy={
            "create": Lazy(f"{at}:create", "Create an endpoint, its deployments and its traffic."),
            "show": Lazy(f"{at}:show", "Show an endpoint with its deployments."),
            "list": Lazy(f"{at}:list_", "List the endpoints."),
            "update": Lazy(f"{at}:update", "Make an endpoint what its file says, or change a part."),
            "delete": Lazy(f"{at}:delete", "Delete an endpoint, or one of its deployments."),
            "invoke": Lazy(f"{at}:invoke", "Score a request file."),
            "get-credentials": Lazy(f"{at}:get_credentials", "Print the keys, or a token."),
            "list-keys": Lazy(f"{at}:list_keys", "The same as get-credentials."),
            "regenerate-keys": Lazy(f"{at}:regenerate_keys", "Replace a key."),
            "get-logs": Lazy(f"{at}:get_logs", "Print the last lines of a deployment's log."),
            "list-jobs": Lazy(f"{at}:list_jobs", "Jobs of batch endpoints: not served."),
        },
    )


_ASSET_VERBS = {
    "create": "Register a version: the next one, or the one that is named.",
    "show": "Show a version.",
    "list": "List the names, or the versions of a name.",
    "update": "Change description, tags, properties.",
    "archive": "Hide a version, or all of a name, from lists.",
    "restore": "Show an archived version, or name, in lists again.",
}


def _assets(name: str, help_text: str, verbs: tuple[str, ...], **more: str) -> LazyGroup:
    """A group of commands about registered assets; `more` adds verbs of its own."""
    at = f"{_COMMANDS}.{name}"
    shared = {verb: Lazy(f"{at}:{verb.replace('list', 'list_')}", _ASSET_VERBS[verb]) for verb in verbs}
    own = {verb.replace("_", "-"): Lazy(f"{at}:{verb}", explained) for verb, explained in more.items()}
    return LazyGroup(name, help=help_text, lazy={**shared, **own})


def _repository() -> LazyGroup:
    listed = Lazy(f"{_COMMANDS}.acr:show_tags", "List the tags of a repository, newest first where asked.")
    return LazyGroup("repository", help="Its repositories.", lazy={"show-tags": listed})


def _blob() -> LazyGroup:
    asked = Lazy(f"{_COMMANDS}.storage:exists", "Say whether a blob is there.")
    return LazyGroup("blob", help="Its blobs.", lazy={"exists": asked})


def _commands(at: str, help_text: str, *, prefix: str = "", **verbs: str) -> LazyGroup:
    """A group whose commands are functions of the module `at`, named by verb (after `prefix`)."""
    targets = {
        verb: f"{_COMMANDS}.{at}:{prefix}{verb}{'_' if prefix == '' and verb == 'list' else ''}"
        for verb in verbs
    }
    lazy = {verb.replace("_", "-"): Lazy(targets[verb], explained) for verb, explained in verbs.items()}
    return LazyGroup(prefix.rstrip("_") or at, help=help_text, lazy=lazy)


def _keyvault() -> LazyGroup:
    secrets = _commands(
        "keyvault",
        "The secrets of a vault.",
        prefix="secret_",
        set="Set a secret: a new version.",
        show="Print a secret, its value too.",
        list="List the secrets, without their values.",
        list_versions="List the versions of a secret.",
        set_attributes="Enable or disable a version.",
        delete="Delete a secret with all versions.",
    )
    vaults = _commands(
        "keyvault",
        "Vaults: secrets kept encrypted, and who may read them.",
        create="Create a vault, or apply its settings again.",
        show="Show a vault and its access policies.",
        list="List the vaults.",
        delete="Delete a vault with all its secrets.",
        set_policy="Say what somebody may do with the secrets of a vault.",
        delete_policy="Take that away again.",
    )
    return LazyGroup("keyvault", help=vaults.help, lazy={**vaults.lazy, "secret": secrets})


def _autoscale() -> LazyGroup:
    plan = f"{_COMMANDS}.autoscale_plan"
    settings = _commands(
        "autoscale",
        "How many instances there are: rules, schedules, and what they would do.",
        create="Have rules and schedules scale a deployment.",
        show="Show an autoscale setting.",
        list="List the autoscale settings.",
        update="Change its bounds, or switch it on and off.",
        delete="Delete a setting; the instances stay.",
    )
    rules = _commands(
        "autoscale",
        "The rules of a setting.",
        prefix="rule_",
        create="Add a rule.",
        list="List the rules of a profile.",
        delete="Take rules away.",
        copy="Copy rules from one profile to another.",
    )
    profiles = _commands(
        "autoscale",
        "The profiles of a setting: bounds and rules for certain times.",
        prefix="profile_",
        create="Add a profile with a schedule.",
        list="List the profiles.",
        show="Show a profile.",
        delete="Delete a profile with its rules.",
        list_timezones="List the time zones.",
    )
    return LazyGroup(
        "autoscale",
        help=settings.help,
        lazy={
            **settings.lazy,
            "rule": rules,
            "profile": profiles,
            "size": Lazy(f"{plan}:size", "Say how many instances a load needs."),
            "simulate": Lazy(f"{plan}:simulate", "Play a trace of load, and draw what would happen."),
        },
    )


def _groups() -> dict[str, Lazy | click.Command]:
    return {
        "online-endpoint": _endpoint(),
        "online-deployment": _deployment(),
        "endpoint": _form(),
        "model": _assets(
            "model",
            "Registered models and their versions.",
            tuple(_ASSET_VERBS),
            download="Bring the files of a version to a folder.",
        ),
        "environment": _assets(
            "environment",
            "Environments that models run in, and their versions.",
            tuple(_ASSET_VERBS),
            build_log="Print the build log of an environment.",
            list_builds="List the built environments.",
            prune="Remove built environments that no deployment uses.",
        ),
        "code": _assets(
            "code",
            "Code that came with deployments.",
            ("show",),
            download="Bring the files of a version to a folder.",
        ),
        "data": _assets(
            "data",
            "Named addresses of data, and their versions.",
            ("create", "show", "list", "archive", "restore"),
        ),
        "workspace": LazyGroup(
            "workspace",
            help="The workspace of this machine: its processes.",
            lazy={
                "start": Lazy(f"{_COMMANDS}.workspace:start", "Start it (commands do so by themselves)."),
                "stop": Lazy(f"{_COMMANDS}.workspace:stop_", "End all its processes; what is stored stays."),
                "backup": Lazy(
                    f"{_COMMANDS}.workspace_backup:backup",
                    "Write all of it to one sealed file, while it serves.",
                ),
                "restore": Lazy(
                    f"{_COMMANDS}.workspace_backup:restore_",
                    "Make it anew from a backup, in an empty folder.",
                ),
                "status": Lazy(f"{_COMMANDS}.workspace:status_", "Show its processes, memory and addresses."),
                "create": Lazy(
                    f"{_COMMANDS}.workspace_scope:create",
                    "Make sure that it is there; what is in it, access policies too, stays.",
                ),
                "show": Lazy(
                    f"{_COMMANDS}.workspace_scope:show", "Show its id, vault, storage and registry."
                ),
                "env": Lazy(
                    f"{_COMMANDS}.workspace:env", "Print what the ecosystem's own clients need to find it."
                ),
            },
        ),
        "keyvault": _keyvault(),
        "identity": _commands(
            "identity",
            "User-assigned identities: who endpoints pull, read and act as.",
            create="Create an identity.",
            show="Show an identity and its ids.",
            list="List the identities.",
            delete="Delete an identity with its roles.",
        ),
        "role": LazyGroup(
            "role",
            help="Who may do what, where.",
            lazy={
                "assignment": _commands(
                    "role",
                    "Roles that were given.",
                    prefix="assignment_",
                    create="Give somebody a role at a scope.",
                    list="List who has which role where.",
                    delete="Take a role away.",
                ),
                "definition": _commands(
                    "role", "The roles there are.", prefix="definition_", list="List the roles."
                ),
            },
        ),
        "ad": LazyGroup(
            "ad",
            help="Who else than its owner may use the workspace.",
            lazy={
                "sp": _commands(
                    "ad",
                    "Service principals: programs, with a secret.",
                    prefix="sp_",
                    create="Create a service principal; prints its secret, this once.",
                    create_for_rbac="The same, with a role.",
                    show="Show a service principal.",
                    list="List the service principals.",
                    reset="Give it a new secret in place of the old ones.",
                    delete="Delete it with its roles.",
                ),
                "user": _commands(
                    "ad",
                    "Users: people, by name.",
                    prefix="user_",
                    create="Create a user.",
                    show="Show a user.",
                    list="List the users.",
                    delete="Delete a user with their roles.",
                ),
            },
        ),
        "account": _commands(
            "ad",
            "Tokens of users and service principals.",
            prefix="account_",
            get_access_token="Print a token for somebody, at the owner's word.",  # noqa: S106 - a help text
        ),
        "audit": _commands(
            "ad", "Who did what, when, with what result.", prefix="audit_", list="Print the last records."
        ),
        "connection": _commands(
            "connection",
            "Named addresses with credentials, for environment variables of deployments.",
            create="Create a connection, or replace it.",
            show="Show a connection.",
            list="List the connections.",
            delete="Delete a connection.",
        ),
        "acr": LazyGroup("acr", help="The workspace's image registry.", lazy={"repository": _repository()}),
        "storage": LazyGroup("storage", help="The workspace's own store of files.", lazy={"blob": _blob()}),
        "check": Lazy(
            f"{_COMMANDS}.check:check", "Find what is wrong with a file, before anything is built or sent."
        ),
        "explain": Lazy(f"{_COMMANDS}.explain:explain", "Say what an error code means and what to do."),
        "quota": LazyGroup(
            "quota",
            help="What deployments may use in all, and who holds it.",
            lazy={
                "list": Lazy(f"{_COMMANDS}.quota:list_", "List limits, what is used, and by whom."),
                "show": Lazy(f"{_COMMANDS}.quota:show", "Show who holds one, or what a deployment needs."),
                "set": Lazy(f"{_COMMANDS}.quota:set_", "Limit the vCPUs of a family, or of all."),
            },
        ),
        "autoscale": _autoscale(),
        "monitor": LazyGroup(
            "monitor", help="Where the ecosystem's tools have autoscale.", lazy={"autoscale": _autoscale()}
        ),
        "compute": LazyGroup(
            "compute",
            help="Instance types and the use of the workspace.",
            lazy={
                "list-sizes": Lazy(f"{_COMMANDS}.compute:list_sizes", "List the instance types."),
                "list-usage": Lazy(f"{_COMMANDS}.compute:list_usage", "List what is used of each limit."),
            },
        ),
        "rollout": _commands(
            "rollout",
            "Shift traffic to a new deployment step by step, while a guard holds.",
            start="Start a rollout.",
            status="Show where it stands, and the figures it decided on.",
            list="List the rollouts of an endpoint.",
            report="Compare answers to copies of requests with live ones.",
            pause="Stay at this step.",
            resume="Go on.",
            abort="End it and bring the traffic back.",
            wait="Wait until it has ended.",
        ),
        "diagnose": Lazy(
            f"{_COMMANDS}.diagnose:diagnose", "Say what is wrong with a deployment, and what to do."
        ),
        "configure": Lazy(f"{_COMMANDS}.configure:configure", "Set or list defaults for flags."),
    }


def build() -> click.Group:
    """The whole tree; `moor ml ...` is the same tree again."""
    groups = _groups()
    group = LazyGroup(
        "moor",
        help="Managed online endpoints on machines you own.",
        lazy={**groups, "ml": LazyGroup("ml", help="The same commands, as `moor ml ...`.", lazy=groups)},
    )
    return click.version_option(__version__, prog_name="moor")(group)


root = build()
