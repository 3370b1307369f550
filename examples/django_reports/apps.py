from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "examples.django_reports"
    label = "reports"
