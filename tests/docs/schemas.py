"""Schemas of files to deploy, for formats that bring none."""

DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
PORTS = r"^(\d+\.\d+\.\d+\.\d+:)?\d+:\d+$"
COMPOSE = {
    "type": "object",
    "required": ["services", "volumes"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {"type": "object"}},
    "properties": {
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
        "services": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "build": {
                        "type": "object",
                        "required": ["context", "dockerfile"],
                        "additionalProperties": False,
                        "properties": {
                            "context": {"type": "string"},
                            "dockerfile": {"type": "string"},
                            "args": {"type": "object", "additionalProperties": {"type": "string"}},
                        },
                    },
                    "image": {"type": "string"},
                    "command": {"type": "string"},
                    "environment": {"type": "object", "additionalProperties": {"type": "string"}},
                    "volumes": {
                        "type": "array",
                        "items": {"type": "string", "pattern": "^[^:]+:/[^:]+(:ro)?$"},
                    },
                    "ports": {"type": "array", "items": {"type": "string", "pattern": PORTS}},
                    "stop_grace_period": DURATION,
                    "init": {"type": "boolean"},
                    "depends_on": {
                        "type": "object",
                        "additionalProperties": {
                            "required": ["condition"],
                            "additionalProperties": False,
                            "properties": {"condition": {"enum": ["service_started", "service_healthy"]}},
                        },
                    },
                    "healthcheck": {
                        "oneOf": [
                            {"additionalProperties": False, "properties": {"disable": {"const": True}}},
                            {
                                "required": ["test"],
                                "additionalProperties": False,
                                "properties": {
                                    "test": {
                                        "type": "array",
                                        "prefixItems": [{"const": "CMD"}],
                                        "items": {"type": "string"},
                                        "minItems": 2,
                                    },
                                    "start_period": DURATION,
                                    "interval": DURATION,
                                    "timeout": DURATION,
                                },
                            },
                        ]
                    },
                    "deploy": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "replicas": {"type": "integer", "minimum": 1},
                            "resources": {
                                "additionalProperties": False,
                                "properties": {
                                    "limits": {
                                        "additionalProperties": False,
                                        "properties": {
                                            "memory": {"type": "string", "pattern": r"^\d+[KMG]$"}
                                        },
                                    }
                                },
                            },
                        },
                    },
                    "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
                },
            },
        },
    },
}
"""The parts of the Compose specification that the files use; an unknown key is refused."""
PROMETHEUS = {
    "type": "object",
    "required": ["scrape_configs"],
    "additionalProperties": False,
    "properties": {
        "scrape_configs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["job_name", "static_configs"],
                "additionalProperties": False,
                "properties": {
                    "job_name": {"type": "string"},
                    "scheme": {"enum": ["http", "https"]},
                    "authorization": {"type": "object", "required": ["credentials_file"]},
                    "static_configs": {"type": "array", "items": {"required": ["targets"]}},
                },
            },
        }
    },
}
PANEL = {
    "type": "object",
    "required": ["id", "type", "title", "description", "datasource", "gridPos", "fieldConfig", "targets"],
    "properties": {
        "type": {"const": "timeseries"},
        "gridPos": {"required": ["h", "w", "x", "y"]},
        "targets": {"type": "array", "minItems": 1, "items": {"required": ["refId", "expr", "legendFormat"]}},
    },
}
