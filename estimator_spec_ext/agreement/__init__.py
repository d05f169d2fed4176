"""Roles of a distributed job compare their graphs before the first step."""
